"""The process of one run: claims key and folder, trains, and leaves a truthful record.

Everything printed goes to run.log. What the parent has to know goes through a pipe: steps as
tuples while training, an `Outcome` last of all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from filelock import Timeout

from sweep.base import environment
from sweep.base.device import Hardware, gpus, resolve_device, shared_name
from sweep.base.loading import is_of_loading
from sweep.base.words import Remark, Text
from sweep.config.schema import Config, ConfigError
from sweep.execution import contention, faults
from sweep.runs import liveness
from sweep.runs.estimate import Size
from sweep.runs.ledger import Ledger
from sweep.runs.record import (
    Record,
    RunSpec,
    first_tags,
    read_record,
    unfinished,
    write_record,
)
from sweep.runs.run import preflight, run
from sweep.strategies.freeze_report import FreezeReport
from sweep.tracking.outbox import Outbox
from sweep.tracking.tags import Tag
from sweep.training.stopping import Stopped, StopRequest

DELIVERY_S = 10.0
"""How long a finished run waits for a store that is away; the rest is delivered when the sweep ends
or another one starts."""


@dataclass(frozen=True)
class Outcome:
    """The end of a run."""

    record: Record | None
    """None when another process trains the same key, or has just finished it."""
    cause: str = ""
    """Of a failure; see `faults`."""
    disk_full: bool = False


@dataclass(frozen=True)
class Preflight:
    """The facts known before anything is trained."""

    errors: list[str]
    """The mistakes of all configurations."""
    gpus: Sequence[str]
    """By the names that `device.gpus` gives."""
    sizes: list[Size]
    """One per configuration, as long as there are no mistakes."""


def preflight_worker(connection: Connection, configs: list[tuple[Config, int]]) -> None:
    """Check all configurations, and send a `Preflight`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    try:
        preflight_result = _look_at(configs)
    except Exception as error:
        preflight_result = Preflight([f"the devices here cannot be used: {_reason(error)}"], (), [])
    with contextlib.suppress(OSError):  # the sweep is gone
        connection.send(preflight_result)


def _look_at(configs: list[tuple[Config, int]]) -> Preflight:
    errors: list[str] = []
    sizes: list[Size] = []
    for cfg, num_labels in configs:
        try:
            sizes.append(_size(*preflight(cfg, num_labels)))
        except ConfigError as error:
            errors += error.messages
        except Exception as error:  # whatever a library raises about a file that is odd
            errors.append(
                f"model.name_or_path={cfg.model.name_or_path!r} with freeze={cfg.freeze.name!r}"
                f" cannot be built: {_reason(error)}. Correct the model's files, or choose another."
            )
    wants_gpu = not configs or any(cfg.trainer.device != "cpu" for cfg, _ in configs)
    return Preflight(errors, gpus() if wants_gpu else (), sizes)


def _reason(error: BaseException) -> str:
    """Put an exception in one line, with the first one that its message has."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}".rstrip(".:") if lines else repr(error)


def _size(report: FreezeReport, hardware: Hardware) -> Size:
    from sweep.training import cost

    return Size(
        trainable_params=report.trainable_params,
        total_params=report.total_params,
        flops_per_token=cost.flops(report, 1.0),
        precision=hardware.precision,
        device=environment.device_name(hardware.device),
    )


def run_worker(connection: Connection, spec: RunSpec) -> None:
    """Do one run and send its outcome."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    stop = StopRequest()
    stop.listen()
    if spec.device is not None:
        _show_only(spec.device)
    ledger = Ledger(spec.root)
    try:
        with ledger.lock(spec.key).acquire(timeout=0):
            if spec.resume and ledger.finished(spec.key, spec.cfg.trainer.save_model):
                connection.send(Outcome(None))
                return
            connection.send(_claimed_run(connection, spec, ledger, stop))
    except Timeout:
        connection.send(Outcome(None))
    except Exception as error:  # before the run could begin
        failed = _failed(spec, error)
        assert failed.record is not None
        record = close_left(spec, "FAILED", failed.record.reason)
        connection.send(replace(failed, record=record))


def _claimed_run(
    connection: Connection, spec: RunSpec, ledger: Ledger, stop: StopRequest
) -> Outcome:
    device = shared_name(resolve_device(spec.cfg.trainer))
    spec.folder.mkdir(parents=True, exist_ok=True)
    _redirect_output(spec.paths.log)
    with liveness.claim(spec.folder), ExitStack() as stack:
        presence = stack.enter_context(contention.present(device))
        box = Outbox(spec.folder, spec.store)
        box.create(spec.name, first_tags(spec))
        ledger.add(spec.key, spec.folder)
        box.start()
        stack.enter_context(liveness.heartbeat(spec.folder, box))
        outcome = _attempt(connection, spec, box, stop)
        record = outcome.record
        assert record is not None
        if presence.contended:
            record.tags[Tag.CONTENDED] = "true"
        return _close(spec, box, outcome)


def _attempt(connection: Connection, spec: RunSpec, box: Outbox, stop: StopRequest) -> Outcome:
    def progress(metrics: dict[str, float], step: int, steps: int) -> None:
        try:
            connection.send((metrics, step, steps))
        except OSError:  # the parent is gone, and with it whoever wants the result now
            stop.ask()

    try:
        return Outcome(run(spec, box, progress, stop))
    except Stopped as stopped:
        return Outcome(unfinished(spec, "KILLED", stopped.remark))
    except BaseException as error:
        traceback.print_exc()
        return _failed(spec, error)


def _failed(spec: RunSpec, error: BaseException) -> Outcome:
    reason: Text = f"{type(error).__name__}: {error}"
    cause = faults.cause_of(error)
    if cause == faults.MEMORY and is_of_loading(error):
        cause, reason = faults.OTHER, Remark("end.too_large_to_load", {"reason": reason})
    return Outcome(unfinished(spec, "FAILED", reason), cause, faults.is_disk_full(error))


def _close(spec: RunSpec, box: Outbox, outcome: Outcome) -> Outcome:
    """Write the record, then tell the store all that is left, the status last of all."""
    record = outcome.record
    assert record is not None
    if box.refused:
        record.notes.append(Remark("note.refused", {"count": len(box.refused)}))
        print(*box.refused, sep="\n", flush=True)
    try:
        write_record(record, spec.folder)
        sys.stdout.flush()
        sys.stderr.flush()
        box.describe(tags={k: v for k, v in record.tags.items() if k == Tag.CONTENDED})
        box.upload(spec.paths.artifacts())
        box.finish(record.status, record.reason)
        box.close(DELIVERY_S)
        record.run_id = box.run_id
        write_record(record, spec.folder)
    except OSError as error:  # a full disk: the parent is told at least
        reason = record.reason or Remark("end.unwritten", {"error": str(error)})
        failed = replace(record, status="FAILED", reason=reason)
        return Outcome(failed, faults.OTHER, faults.is_disk_full(error))
    return replace(outcome, record=record)


def close_left(spec: RunSpec, status: str, reason: Text) -> Record:
    """Write down the end of a run whose process is gone."""
    done = read_record(spec.folder)
    if done is not None and done.status == "FINISHED":
        # It died while telling the store, which the next start completes; the result stands.
        return done
    record = unfinished(spec, status, reason)
    # What cannot be written now is written by the next start, which finds the run dead.
    with contextlib.suppress(OSError):
        spec.folder.mkdir(parents=True, exist_ok=True)
        write_record(record, spec.folder)
        box = Outbox(spec.folder, spec.store)
        if not box.status:  # it ended before it could say that it began
            box.create(spec.name, first_tags(spec))
        if box.status == "RUNNING":
            box.finish(status, reason)
        box.close(DELIVERY_S)
        record.run_id = box.run_id
        write_record(record, spec.folder)
    return record


def _show_only(number: int) -> None:
    """Hide all GPUs but one from this process; counted among those that it may see now."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")  # read when CUDA starts, which it has not
    os.environ["CUDA_VISIBLE_DEVICES"] = given.split(",")[number] if given else str(number)


def _redirect_output(log: Path) -> None:
    """Send stdout and stderr of this process, native libraries included, to a file."""
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
