"""A member put where its last checkpoint stands, and what is said of it."""

from collections.abc import Callable

from distill.runs.checkpoint import Loaded
from distill.runs.directory import RunDirectory
from distill.runs.files import StorageError
from distill.runs.provenance import why_bytes_differ
from distill.training import Member


def resume(member: Member, loaded: Loaded, directory: RunDirectory, note: Callable[[str], None]) -> None:
    """Restore `member` from `loaded`, with a note where the bytes of an uninterrupted run cannot be promised.

    Raises:
        StorageError: the checkpoint is of another version.
    """
    try:
        member.restore(loaded.tensors, loaded.state)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise StorageError(
            f"the checkpoint of {directory.path} is of another version of distill ({reason}): "
            "delete this folder to start the run again"
        ) from error
    differs = why_bytes_differ(loaded.state.get("conditions", {}), member.conditions)
    for sentence in (loaded.note, differs, f"{member.name} resumes at epoch {member.epoch}, step {member.step}"):
        if sentence:
            note(sentence)
