"""Move an uploaded file through folders on a disk; a bad file leaves no traces."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fsm_mediator import Context, Saga, StepRejectedError, step

FOLDER = Path(os.environ.get("PIPELINE_FOLDER", "."))


@dataclass
class Upload:
    """A file that was uploaded."""

    name: str
    text: str


def file_in(folder_name: str, context: Context) -> Path:
    """The file of this execution in a folder. Its name is the same in each attempt."""
    folder = FOLDER / folder_name
    folder.mkdir(parents=True, exist_ok=True)
    return folder / context.saga_id


def write_whole(path: Path, text: str) -> None:
    """Write a file so that no crash leaves half of it."""
    half = path.with_name(f"{path.name}.half")
    half.write_text(text, encoding="utf-8")
    half.replace(path)


def remove(path: Path) -> None:
    """Delete a file, and an incomplete file that a crash may have left. Both may be missing."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.half").unlink(missing_ok=True)


@step
def keep(upload: Upload, context: Context) -> None:
    """Store the upload. Writing it twice has the same effect as writing it once."""
    write_whole(file_in("kept", context), upload.text)


@keep.compensation
def delete(upload: Upload, context: Context) -> None:
    """Delete it."""
    remove(file_in("kept", context))


@step
def count_words(upload: Upload, context: Context) -> int:
    """Read the kept file. A step without an effect needs no compensation."""
    words = file_in("kept", context).read_text(encoding="utf-8").split()
    if not words:
        raise StepRejectedError(f"{upload.name} is empty")
    return len(words)


@step
def publish(upload: Upload, context: Context) -> None:
    """Write the result where readers look."""
    write_whole(file_in("published", context), f"{upload.name}: {context.results['count_words']} words")


@publish.compensation
def unpublish(upload: Upload, context: Context) -> None:
    """Delete the result."""
    remove(file_in("published", context))


pipeline = Saga("pipeline", [keep, count_words, publish], payload=Upload)
