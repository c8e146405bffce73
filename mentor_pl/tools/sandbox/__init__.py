"""A confined process per piece of model-written code: Landlock, seccomp, namespaces where the host grants them, resource limits.

`sandbox` and `cell` are the trainer's side. `zygote` is a small process, made ready by `startup`,
that forks a child for each call and decides, from outside the child, how the call ended. `child`
confines itself by `landlock` and `seccomp` and runs the code. Nothing here imports torch.
"""
