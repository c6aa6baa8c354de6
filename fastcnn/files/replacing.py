"""Write a file whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` at once, when the block has ended well.

    A process that is killed meanwhile leaves the old file as it was, and its own unfinished one,
    `<name>.<random>.tmp`, beside it.

    Raises
    ------
    OSError
        The file cannot be written; an older one is as it was. The same holds for whatever the
        block raises.
    """
    path = Path(path)
    # In the same folder: only within one file system a file is replaced at once.
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            # Without it, after a power cut, the new name may stand over content never written.
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
