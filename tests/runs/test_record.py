"""The record of a run: what of it is stored as data, and read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support.config import compose

from sweep.base import words
from sweep.base.words import Remark
from sweep.runs.record import Record, read_record, saved_config, write_record

KOREAN = words.load("ko")


def test_why_a_run_ended_and_its_notes_can_be_told_in_any_language(tmp_path: Path) -> None:
    reason = Remark("end.too_large", {"reason": "MemoryError: 2 GiB"})
    notes = [Remark("note.again", {"reason": reason}), "a text of a library"]
    write_record(Record("", "none", "none", "FAILED", reason, notes=notes), tmp_path)
    stored = json.loads((tmp_path / "record.json").read_text("utf-8"))
    end = {"key": "end.too_large", "values": {"reason": "MemoryError: 2 GiB"}}
    assert stored["reason"] == end
    assert stored["notes"] == [{"key": "note.again", "values": {"reason": end}}, notes[1]]
    record = read_record(tmp_path)
    assert record is not None
    assert (record.reason, record.notes) == (reason, notes)
    assert KOREAN.tell(record.reason) == KOREAN.tell(reason)
    assert KOREAN.tell(record.notes[0]) == KOREAN.tell(notes[0])


def test_a_record_of_a_version_that_stored_sentences_is_read(tmp_path: Path) -> None:
    stored = {"run_id": "", "name": "none", "strategy": "none", "status": "FAILED"}
    texts = {"reason": "the process was killed by SIGKILL", "notes": ["went on from step 3"]}
    (tmp_path / "record.json").write_text(json.dumps(stored | texts), "utf-8")
    record = read_record(tmp_path)
    assert record is not None
    assert {"reason": record.reason, "notes": record.notes} == texts


def test_the_settings_of_replicates_are_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose("freeze=none", "trainer.max_steps=7")
    for seed in range(3):
        (tmp_path / f"{seed}").mkdir()
        file = tmp_path / f"{seed}" / "config.yaml"
        OmegaConf.save(OmegaConf.structured(replace(cfg, seed=seed)), file)
    first = saved_config(tmp_path / "0")
    monkeypatch.setattr(OmegaConf, "create", None)
    assert [saved_config(tmp_path / f"{seed}").seed for seed in range(3)] == [0, 1, 2]
    # What a caller changes is its own.
    first.trainer.max_steps = 9
    assert saved_config(tmp_path / "1") == replace(cfg, seed=1)
