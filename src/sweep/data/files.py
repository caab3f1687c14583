"""One data file: what kind it is, and its content, unpacked if it is packed.

How a file is packed is seen from its first bytes, so a wrong suffix misleads nobody.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO, cast

import psutil

from sweep.config.schema import ConfigError, DataConfig

KINDS = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet")
PACKED = (".gz", ".bz2", ".xz", ".zip", ".zst")
SIGNATURES = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
    b"PK\x03\x04": ".zip",
    b"\x28\xb5\x2f\xfd": ".zst",
}
UNPACKING_ERRORS = (EOFError, lzma.LZMAError, zipfile.BadZipFile, zlib.error, RuntimeError)
"""What damaged or encrypted archives raise beside OSError and ValueError."""


@dataclass(frozen=True)
class DataFile:
    """A file that is there, and not empty."""

    path: Path
    where: str
    """The key and its value, as error messages say it."""
    kind: str
    """One of `KINDS`."""
    unpacked: bytes | None = field(default=None, repr=False)
    """The content of a packed file."""

    def binary(self) -> BinaryIO:
        """Open the content."""
        return self.path.open("rb") if self.unpacked is None else io.BytesIO(self.unpacked)

    def text(self, cfg: DataConfig) -> TextIO:
        """Open the content in its encoding, with line ends as they are."""
        return io.TextIOWrapper(self.binary(), cfg.encoding, cfg.encoding_errors, newline="")


def memory_left() -> int:
    """Return the bytes that a data set may take: half of what is free."""
    return psutil.virtual_memory().available // 2


def open_file(path: Path, where: str) -> DataFile:
    """Find out what a file is, and unpack it.

    Raises:
        ConfigError: It cannot be opened or unpacked, or is of no kind that is known.
    """
    packing = _packing(path, where)
    name = path.name.removesuffix(path.suffix) if path.suffix.lower() in PACKED else path.name
    unpacked = None
    if packing is not None:
        member, unpacked = _unpack(path, packing, where)
        name = member if Path(name).suffix.lower() not in KINDS and member else name
    kind = Path(name).suffix.lower()
    if kind not in KINDS:
        raise ConfigError(
            f"{where} has the suffix {Path(name).suffix!r}. Known are {', '.join(KINDS)}, also with"
            f" {', '.join(PACKED)} behind them; rename the file, or convert it."
        )
    return DataFile(path, where, kind, unpacked)


def _packing(path: Path, where: str) -> str | None:
    """Return the packing of a file; None where it is not packed."""
    if path.is_dir():
        raise ConfigError(f"{where} is a folder. Name one file.")
    if path.exists() and not path.is_file():
        raise ConfigError(
            f"{where} is a pipe or a device, which can be read only once. Save what comes of it as"
            " a file, and name that."
        )
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except FileNotFoundError:
        if path.parts and path.parts[0].endswith(":"):  # of https://, s3://
            raise ConfigError(
                f"{where} is an address, not a file. Download it, and name the file; what is on the"
                " Hugging Face hub is read by data=hub data.dataset=NAME."
            ) from None
        raise ConfigError(
            f"{where} does not exist (looked for {path.absolute()}). Correct the path."
        ) from None
    except OSError as error:
        raise ConfigError(f"{where} cannot be opened: {error.strerror}.") from None
    if not head:
        raise ConfigError(f"{where} is empty. Name a file with a header and rows.")
    packing = next((p for start, p in SIGNATURES.items() if head.startswith(start)), None)
    # A table may begin with these three letters, and a block of bzip2 goes on with those of pi.
    return None if packing == ".bz2" and head[4:10] != b"1AY&SY" else packing


def _unpack(path: Path, packing: str, where: str) -> tuple[str, bytes]:
    """Return the name inside the archive, empty where it has none, and the content."""
    try:
        if packing == ".zip":
            return _unpack_zip(path, where)
        with _opener(packing, where)(path) as stream:
            return "", _read(stream, where)
    except (OSError, ValueError, *UNPACKING_ERRORS) as error:
        raise ConfigError(
            f"{where} is packed as {packing[1:]}, and cannot be unpacked: {error}. Unpack it, or"
            " save it anew."
        ) from None


def _opener(packing: str, where: str) -> Callable[[Path], IO[bytes]]:
    if packing != ".zst":
        openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
        return cast(Callable[[Path], IO[bytes]], openers[packing])
    try:
        import zstandard
    except ImportError:
        raise ConfigError(
            f"{where} is packed as zst, which needs the Python package zstandard. Unpack it, or:"
            " pip install zstandard"
        ) from None
    return cast(Callable[[Path], IO[bytes]], zstandard.open)


def _unpack_zip(path: Path, where: str) -> tuple[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        names = [
            info.filename
            for info in archive.infolist()
            # What macOS and Windows add without being asked.
            if not info.is_dir() and not info.filename.startswith("__MACOSX/")
            if Path(info.filename).name not in (".DS_Store", "desktop.ini", "Thumbs.db")
        ]
        if "[Content_Types].xml" in names:
            raise ConfigError(f"{where} is a workbook of Excel. Save its sheet as CSV UTF-8.")
        if len(names) != 1:
            shown = ", ".join(map(repr, names[:5]))
            raise ConfigError(
                f"{where} is an archive of {len(names)} files ({shown}). Unpack it, and name one."
            )
        with archive.open(names[0]) as stream:
            return Path(names[0]).name, _read(stream, where)


def _read(stream: IO[bytes], where: str) -> bytes:
    """Read all of a stream, unless it is larger than memory."""
    limit, content = memory_left(), bytearray()
    while block := stream.read(2**20):
        content += block
        if len(content) > limit:
            raise ConfigError(
                f"{where} takes more than {limit / 2**30:.1f} GiB when it is unpacked, half of the"
                " memory that is free. Name a file with fewer rows."
            )
    return bytes(content)
