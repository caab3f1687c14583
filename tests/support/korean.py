"""Which words of a Korean page are English."""

from __future__ import annotations

import re
from html.parser import HTMLParser

STRATEGIES = {
    "none": "freeze=none",
    "attention": "freeze=attention",
    "full": "freeze=full",
    "lora": "freeze=lora",
    "top_layers": "freeze=top_layers",
    "gradual": "freeze=gradual",
}
UNITS = {"MiB", "FLOPs", "CPU", "SHA", "TF", "IDF", "gram"}
TERMS = {"F1", "Holm", "MLflow", "LoRA", "Ctrl", "SIGTERM"}
SETTINGS = {
    *("seed", "data.max_length", "data.test_size", "data.train_size", "optimizer.learning_rate"),
    "rates.factor",
    *("trainer.eval_steps", "trainer.cache_limit_mib", "report.examples", "compare.max_time_s"),
    *("trainer.timeout_min", "trainer.num_train_epochs"),
}
FILES = {"summary.csv", "freeze.json", "predictions.csv", "run.log"}
METRICS = {"train_flops", "eval_loss"}
OTHERS = {"sweep", "rows", "tiny", "torch"}
NAMES = {*STRATEGIES, *UNITS, *TERMS, *SETTINGS, *FILES, *METRICS, *OTHERS}
LATIN = re.compile(r"[A-Za-z][A-Za-z0-9_.]*[A-Za-z0-9]")


def foreign(text: str) -> set[str]:
    """Words in Latin letters, but for names."""
    return set(LATIN.findall(text)) - NAMES


class Texts(HTMLParser):
    """What a reader of a page meets: its texts, and the texts read aloud in place of figures."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        self.found += [value or "" for name, value in attrs if name in ("aria-label", "alt")]

    def handle_data(self, data: str) -> None:
        if self._within not in ("style", "script") and data.strip():
            self.found.append(data.strip())


def texts_of(page: str) -> list[str]:
    """All texts of a page."""
    parser = Texts()
    parser.feed(page)
    return parser.found


def english(texts: list[str], data: list[str]) -> list[str]:
    """Texts with words in Latin letters that are neither names nor quoted from data."""
    found = []
    for text in texts:
        kept = text
        for quoted in sorted(data, key=len, reverse=True):
            kept = kept.replace(quoted, "")
        if foreign(kept):
            found.append(text)
    return found
