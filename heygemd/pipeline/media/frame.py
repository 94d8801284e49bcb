"""One picture: planar 4:2:0, 8 bits, both sides even."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


class Frame:
    """A planar 4:2:0 8-bit picture that its holder may keep and edit.

    ``data``: uint8 (h*w*3//2,), contiguous and writable: the planes one after the other, as the encoder
    gets them. ``y`` (h, w), ``u`` and ``v`` (h/2, w/2) are writable views of it.
    """

    __slots__ = ("data", "height", "u", "v", "width", "y")

    def __init__(self, data: Bytes, width: int, height: int) -> None:
        """``data`` is not copied; ``width`` and ``height`` are even."""
        luma, chroma = width * height, width * height // 4
        assert data.shape == (luma + 2 * chroma,), (data.shape, width, height)
        self.data = data
        self.width = width
        self.height = height
        self.y = data[:luma].reshape(height, width)
        self.u = data[luma : luma + chroma].reshape(height // 2, width // 2)
        self.v = data[luma + chroma :].reshape(height // 2, width // 2)

    def copy(self) -> Frame:
        """A picture of its own with the same content."""
        return Frame(self.data.copy(), self.width, self.height)


def even(size: int) -> int:
    """The next even number: what 4:2:0 needs."""
    return size + size % 2


def padded(raw: Bytes, width: int, height: int) -> Bytes:
    """Planes of an odd-sized picture as ffmpeg writes them -> those of the even-sized one.

    The luma's last column and row are repeated once; chroma, already rounded up, stays as it is.
    """
    luma = raw[: width * height].reshape(height, width)
    wider = np.pad(luma, ((0, height % 2), (0, width % 2)), mode="edge")
    return np.concatenate((wider.ravel(), raw[width * height :]))


ROWS_APART = 16
"""Of the rows of luma that a fingerprint is made of."""


def fingerprint(frame: Frame) -> int:
    """A checksum of some rows of luma, one of each row of macroblocks: enough to see that two decodes of a picture
    differ, at a fortieth of the cost of reading all of it."""
    return zlib.crc32(np.ascontiguousarray(frame.y[::ROWS_APART]).data)
