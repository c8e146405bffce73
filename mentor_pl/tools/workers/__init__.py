"""Worker processes that run users' typed functions, apart from the trainer and killable at any moment."""
