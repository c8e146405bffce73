"""`mentor-pl fit | validate | test | predict`: LightningCLI over our module and data module."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mentor_pl.callbacks.checkpoints import LAST, RunCheckpoint
from mentor_pl.callbacks.collapse_guard import CollapseGuard
from mentor_pl.callbacks.export import ExportStudent
from mentor_pl.callbacks.graceful_stop import GracefulStop
from mentor_pl.callbacks.non_finite_guard import NonFiniteGuard
from mentor_pl.callbacks.recorder import TrajectoryRecorder
from mentor_pl.callbacks.rollout_guard import RolloutGuard
from mentor_pl.callbacks.summary import RunSummary
from mentor_pl.cli.constructors import constructor_error, refuse_nulls
from mentor_pl.cli.diagnosis import Group, one_line
from mentor_pl.cli.launched_ranks import LaunchedRanks, check_launcher
from mentor_pl.cli.names import written_out
from mentor_pl.cli.parser import OneLineErrors
from mentor_pl.cli.quiet import quieten
from mentor_pl.cli.replacement import with_replacement
from mentor_pl.cli.run_dir import choose_run_dir, point_last_to
from mentor_pl.errors import ConfigError, EngineError, MentorError, UsageError
from mentor_pl.plugins import find_plugins, keeping_contract
from mentor_pl.training.checkpoint_file import read_checkpoint
from mentor_pl.training.checkpoint_io import AtomicCheckpointIO
from mentor_pl.training.datamodule import MentorDataModule
from mentor_pl.training.module import MentorModule
from mentor_pl.training.resume import RUN_KEY, check_same_optimizer, check_same_run
from mentor_pl.training.run_folder import RunFolder, requeued_checkpoint
from mentor_pl.training.run_position import RunPosition

_log = logging.getLogger(__name__)

_MOST_PROCESSES = 1_000_000

_CALLBACKS: dict[str, type[Callback]] = {
    "checkpoint": RunCheckpoint,
    "recorder": TrajectoryRecorder,
    "summary": RunSummary,
    "export": ExportStudent,
    "guard": NonFiniteGuard,
    "rollouts": RolloutGuard,
    "collapse": CollapseGuard,
}
"""The callbacks that every run has, by the keys of their settings."""


class _Parser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser, with errors of one line."""

    prepared = staticmethod(with_replacement)
    positional = ("subcommand",)
    schema = {
        "subcommand": str,
        "seed_everything": bool | int,
        "run_dir": str | None,
        "trainer": Group(Trainer),
        "model": Group(MentorModule),
        "data": Group(MentorDataModule),
        **{key: Group(callback) for key, callback in _CALLBACKS.items()},
        "ckpt_path": str | Path | None,
        "weights_only": bool | None,
        "verbose": bool,
        "return_predictions": bool | None,
    }


class SaveConfig(SaveConfigCallback):
    """Writes the resolved config to the run's folder, whatever the logger."""

    def save_config(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Write `config.yaml`, without the run's own place: fed to `fit` again, it makes a new run."""
        run_dir = Path(trainer.default_root_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        config = self.config.clone()
        config.run_dir = config.trainer.default_root_dir = config.ckpt_path = None
        if config.checkpoint.dirpath == str(run_dir / "checkpoints"):
            config.checkpoint.dirpath = None
        self.parser.save(config, str(run_dir / "config.yaml"), skip_none=False, overwrite=True, multifile=False)


class MentorCLI(LightningCLI):
    """LightningCLI with a run folder, and the callbacks that every run has."""

    def __init__(self, *settings: Any, ranks: LaunchedRanks | None = None, **options: Any) -> None:
        """Run the subcommand; end the process where it was asked to end."""
        self._folder: RunFolder | None = None
        self._ranks = ranks or LaunchedRanks()
        try:
            super().__init__(*settings, **options)
        except SIGTERMException as stopped:
            status = int(stopped.code or 128 + signal.SIGTERM)
            threading.Timer(1.0, os._exit, (status,)).start()  # an engine may hang while it is closed
            with contextlib.suppress(
                Exception
            ):  # an engine of a plugin's: the checkpoint is written, and the run ends here
                self.model.engine.close()
            # An ordinary exit would wait for the tool call that a thread may still run, up to its time limit.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    @property
    def _settings(self) -> Any:
        """The settings of the present subcommand."""
        return self._of_subcommand(self.config)

    def _of_subcommand(self, config: Any) -> Any:
        return config[self.subcommand] if self.subcommand else config

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's folder and our callbacks, each with its keys."""
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="Folder of the run; a new one under runs/ by default, of which runs/last is the newest.",
        )
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        for key, callback in _CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)
        parser.set_defaults({"checkpoint.filename": "{step}", "checkpoint.auto_insert_metric_name": True})

    def _parse_ckpt_path(self) -> None:
        """A checkpoint gives weights and state, never settings: the command line says what it says."""

    def before_instantiate_classes(self) -> None:
        """Choose the run's folder."""
        config = self._settings
        for key, hint in _Parser.schema.items():
            if isinstance(hint, Group) and not isinstance(value := config.get(key), Namespace):
                raise UsageError(f"{key} is {value!r}; expected a mapping of keys to values")
        if config.trainer.barebones:
            raise ConfigError(
                "trainer.barebones is true, which measures Lightning alone, without the log, the callbacks and the checkpoints "
                "that a run is made of; leave it out"
            )
        run_dir = choose_run_dir(config.run_dir, str(self.subcommand))
        config.run_dir = str(run_dir)
        config.trainer.default_root_dir = str(run_dir)
        if config.checkpoint.dirpath is None:
            config.checkpoint.dirpath = str(run_dir / "checkpoints")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add what every run has, where the config does not say otherwise."""
        settings = self._of_subcommand(self.config_init)
        config = settings.trainer
        if config.get("logger") in (None, True):
            kwargs["logger"] = CSVLogger(config["default_root_dir"], name="", version="")
        if config.get("enable_checkpointing") is False:
            settings.checkpoint.switch_off()  # Lightning refuses the two together
            kwargs["enable_checkpointing"] = True
        kwargs["plugins"] = [*_listed(config.get("plugins")), AtomicCheckpointIO()]
        listed = _listed(config.get("callbacks"))
        stops = [c for c in listed if isinstance(c, GracefulStop)] or [GracefulStop()]
        # in place when others begin to evaluate
        callbacks = [self._ranks, *stops, *(c for c in listed if c not in stops)]
        if config.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(RichProgressBar())
        kwargs["callbacks"] = callbacks
        refuse_nulls(Trainer, config)
        _check_trainer(config)
        try:
            trainer = super().instantiate_trainer(**kwargs)
            check_launcher(trainer)
            return trainer
        except MentorError:
            raise
        except Exception as failure:  # Lightning raises all kinds; nothing but its arguments has been looked at yet
            raise constructor_error(Trainer, failure, config.as_dict()) from failure

    def before_fit(self) -> None:
        """Take the run's folder, and see whether the run can be resumed, before anything is loaded."""
        run_dir = Path(self.trainer.default_root_dir)
        if self.trainer.is_global_zero:
            self._folder = RunFolder(run_dir)
            point_last_to(run_dir)
        path, last = self._settings.ckpt_path, Path(self._settings.checkpoint.dirpath) / LAST
        path = requeued_checkpoint(run_dir, last) or (last if path == "last" else path)
        if path is not None and path not in ("best", "hpc"):
            self._of_subcommand(self.config_init).ckpt_path = str(path)
            self._prepare_resuming(Path(path))
        elif self._folder is not None and (earlier := self._folder.begin_anew()) is not None:
            _log.warning(
                "%s held another run, which is now in %s; to go on with a run instead of beginning anew, give --ckpt_path",
                *(run_dir, earlier.name),
            )

    def _prepare_resuming(self, path: Path) -> None:
        checkpoint = read_checkpoint(path, check_digest=self.trainer.is_global_zero)
        check_same_run(checkpoint, self.datamodule.identity)
        check_same_optimizer(checkpoint, self.model.optimizer_name)
        position = RunPosition(**checkpoint[RUN_KEY]["position"])
        if self._folder is None:
            return
        if position.is_at_end(self.trainer) and self._folder.finished_step == position.step:
            ended = f"--ckpt_path: the run in {self._folder.path} has ended at update {position.step}"
            if position.stopped_early:
                raise ConfigError(
                    f"{ended}, where a callback stopped it early; to train on, `mentor-pl export` the checkpoint and start a new "
                    "run from that student"
                )
            raise ConfigError(
                f"{ended}, and nothing is left to train; to train on, raise trainer.max_steps (now {self.trainer.max_steps}) "
                f"or trainer.max_epochs (now {self.trainer.max_epochs})"
            )
        self._folder.go_back_to(position, checkpoint=path, loggers=self.trainer.loggers)

    def after_fit(self) -> None:
        """Say where the run is; free what it used."""
        if self._folder is not None:
            self._folder.note_finished(self.trainer.global_step)
            self._folder.close()
            print(f"The run is in {os.path.relpath(self.trainer.default_root_dir)}")
        self.after_test()

    def after_test(self) -> None:
        """Free what tools and engine hold."""
        self.datamodule.close()
        with keeping_contract(self.model.engine, ".close", EngineError):
            self.model.engine.close()

    after_validate = after_predict = after_test


def _seed(seed_everything: bool | int | None) -> int:
    """One seed for all: rollouts draw from it by their own counters."""
    seed = 0 if seed_everything is None else int(seed_everything)
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed_everything is {seed}; it must be from 0 to {2**32 - 1}")
    return seed


def _check_trainer(config: Any) -> None:
    """Refuse what Lightning takes and then fails on, or what cannot work here.

    Raises:
        ConfigError: Naming the key.
    """
    for key in ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"):
        if isinstance(value := config.get(key), (int, float)) and value <= 0:
            raise ConfigError(f"trainer.{key} is {value}; it must be positive")
    for key in ("devices", "num_nodes"):
        if isinstance(value := config.get(key), int) and value > _MOST_PROCESSES:
            raise ConfigError(f"trainer.{key} is {value}; it must be at most {_MOST_PROCESSES}, as many as are there")
    if str(config.get("strategy")).endswith(("_spawn", "_fork", "_notebook")):
        strategy = config.get("strategy")
        raise ConfigError(f"trainer.strategy is {strategy}, which copies live tools and engines; use ddp")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def main(argv: list[str]) -> None:
    """Run a training subcommand; `argv` begins with its name."""
    quieten()
    find_plugins()  # imports every plugin, so that `class_path: ToolMatch` resolves by its bare name
    before, sys.argv = sys.argv, [sys.argv[0], *written_out(argv)]  # where Lightning looks, also to start further ranks
    ranks = LaunchedRanks()
    try:
        _run(ranks)
    except Exception:
        if not ranks.refuse():
            sys.exit(1)  # another rank has said why
        raise
    finally:
        sys.argv = before


def _run(ranks: LaunchedRanks) -> None:
    try:
        MentorCLI(
            MentorModule,
            MentorDataModule,
            parser_class=_Parser,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            auto_configure_optimizers=False,
            seed_everything_default=0,
            ranks=ranks,
        )
    except MisconfigurationException as failure:  # a key of Lightning's that contradicts another one
        raise ConfigError(one_line(str(failure))) from failure
