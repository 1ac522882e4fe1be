"""Readers of digit images: IDX files, which MNIST comes in, and scikit-learn's bundled digits."""

from __future__ import annotations

import math
import operator
import os
import stat
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import numpy as np

__all__ = ["Split", "load_digits", "load_mnist", "read_idx"]

_ELEMENT_TYPES: dict[int, np.dtype] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(np.int16),
    0x0C: np.dtype(np.int32),
    0x0D: np.dtype(np.float32),
    0x0E: np.dtype(np.float64),
}
_MAX_DIMENSIONS = 32  # NumPy 1.24's own limit; the header's byte could say 255
_MAX_BYTES = 1 << 31
_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_MAX_RATIO = 1032  # 258 bytes from two bits: RFC 1951's longest match, shortest codes
_CHUNK_IN = 1 << 16
_CHUNK_OUT = 1 << 20

_MNIST_SIDE = 28
_MNIST_CLASSES = 10

_Check = Callable[[np.dtype, tuple[int, ...]], None]


class Split(NamedTuple):
    """Samples and labels, parted into a training and a test set.

    It unpacks: ``X_train, y_train, X_test, y_test = load_digits()``.

    Attributes
    ----------
    X_train, X_test : numpy.ndarray of shape (n_samples, n_pixels)
        One image per row, its pixels row by row.
    y_train, y_test : numpy.ndarray of shape (n_samples,), int64
        The class of each image.
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = _MAX_BYTES) -> np.ndarray:
    """Read an array from an IDX file, the format of MNIST, gzipped or not.

    An IDX file is two zero bytes, a byte for the element type, a byte for the number of
    dimensions, each dimension's size as a big-endian 32-bit integer, and the elements in C order,
    big-endian. Gzip is recognised by its first bytes, whatever the file's name.

    The file is not trusted. The header is judged before memory is reserved, a gzip stream is
    unpacked for as long as the header promises data and one byte further, and a file that holds
    less, or more, than its header promises is refused.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    max_bytes : int, default=2147483648
        Refuse an array larger than this.

    Returns
    -------
    numpy.ndarray
        The shape and element type that the header states (uint8, int8, int16, int32, float32 or
        float64), in native byte order, C-contiguous and writable.

    Raises
    ------
    ValueError
        If `path` is no regular file, or is not one whole sound IDX file, or promises more than
        `max_bytes`; or if `max_bytes` is negative.
    OSError
        If the file is missing or cannot be read.

    References
    ----------
    Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "The IDX
    file format".

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from cymlp.datasets import read_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "squares.idx"
    ...     _ = path.write_bytes(bytes([0, 0, 0x08, 1, 0, 0, 0, 4, 0, 1, 4, 9]))
    ...     read_idx(path)
    array([0, 1, 4, 9], dtype=uint8)
    """
    try:
        limit = operator.index(max_bytes)
    except TypeError:
        raise TypeError(f"max_bytes: expected an integer, got {max_bytes!r}") from None
    if limit < 0:
        raise ValueError(f"max_bytes: expected zero or more, got {limit}")
    return _read(Path(path), limit)


def load_mnist(directory: str | os.PathLike[str]) -> Split:
    """Load MNIST, or a set in its shape such as Fashion-MNIST, from its four IDX files.

    Parameters
    ----------
    directory : str or os.PathLike
        The folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``. Each may end in ``.gz`` and may
        be spelt with a dot before ``idx``; of several spellings the first of plain, gzipped,
        dotted, dotted and gzipped is read.

    Returns
    -------
    Split
        Images of shape (n, 784), uint8, 0 for paper to 255 for ink (``reshape(-1, 28, 28)`` gives
        pictures), and labels of shape (n,), int64, 0 to 9.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the folder, or one of the files, is not there.
    ValueError
        If a file is not a whole sound IDX file, holds something else than its name says, or if
        images and labels differ in number.

    Examples
    --------
    >>> from cymlp.datasets import load_mnist
    >>> X_train, y_train, X_test, y_test = load_mnist("mnist")       # doctest: +SKIP
    >>> X_train.shape, X_train.dtype                                 # doctest: +SKIP
    ((60000, 784), dtype('uint8'))
    """
    folder = Path(directory)
    if not folder.is_dir():
        kind = NotADirectoryError if folder.exists() else FileNotFoundError
        raise kind(f"{folder}: expected a folder with MNIST's IDX files")
    # All four are found before the first is read: a missing one is told at once.
    train, test = (
        [_find_mnist(folder, part, kind) for kind in ("images", "labels")]
        for part in ("train", "t10k")
    )
    X_train, y_train = _read_mnist_pair(*train)
    X_test, y_test = _read_mnist_pair(*test)
    return Split(X_train, y_train, X_test, y_test)


def load_digits(*, test_size: float | int = 0.2, random_state: int = 0) -> Split:
    """Load scikit-learn's bundled digits: 1797 real handwritten digits of 8 x 8 pixels.

    Parameters
    ----------
    test_size : float or int, default=0.2
        The share, or the number, of samples to set apart for testing. Each class gets its share.
    random_state : int, default=0
        Chooses the split; the same number gives the same split.

    Returns
    -------
    Split
        Images of shape (n, 64), float32, 0 for paper to 1 for ink, and labels of shape (n,),
        int64, 0 to 9.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    ValueError
        If `test_size` leaves either set with fewer than one sample of each class.

    Examples
    --------
    >>> from cymlp.datasets import load_digits
    >>> digits = load_digits()
    >>> digits.X_train.shape, digits.X_test.shape
    ((1437, 64), (360, 64))
    """
    try:
        from sklearn.datasets import load_digits as load_bundled
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError(
            'load_digits needs scikit-learn; install it with: pip install "cymlp[sklearn]"'
        ) from error

    pixels, labels = load_bundled(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        (pixels / 16.0).astype(np.float32),  # pixels are whole numbers from 0 to 16
        labels.astype(np.int64),
        test_size=test_size,
        stratify=labels,
        random_state=random_state,
    )
    return Split(X_train, y_train, X_test, y_test)


# --------------------------------------------------------------------------- IDX


class _PlainSource:
    """The bytes of a plain file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.capacity = size

    def readinto(self, view: memoryview) -> int:
        """Fill `view` and return how many bytes came: fewer only where the data ends."""
        done = 0
        while done < len(view):
            count = self._file.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                break
            done += count
        return done


class _GzipSource:
    """The unpacked bytes of a gzip file, no more of them than are asked for.

    `gzip.GzipFile` reads ahead through a buffer and leaves a damaged checksum unseen when the
    reader stops at the last byte of the data; here each byte is unpacked on demand, and the
    request for a byte past the end is what checks the stream's CRC and length.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._member = zlib.decompressobj(wbits=31)
        self._packed = b""
        self.capacity = size * _DEFLATE_MAX_RATIO

    def readinto(self, view: memoryview) -> int:
        """Fill `view` and return how many bytes came: fewer only where the data ends."""
        done = 0
        while done < len(view):
            block = self._unpack(min(len(view) - done, _CHUNK_OUT))
            if not block:
                break
            view[done : done + len(block)] = block
            done += len(block)
        return done

    def _unpack(self, most: int) -> bytes:
        """Return 1 to `most` further bytes, or none at the end of the last gzip member."""
        while True:
            if self._member.eof:
                self._packed = self._member.unused_data or self._file.read(_CHUNK_IN)
                if not self._packed:
                    return b""
                self._member = zlib.decompressobj(wbits=31)
            # Output may wait inside the decompressor when no input is left: ask it first.
            block = self._member.decompress(self._packed, most)
            self._packed = self._member.unconsumed_tail
            if block:
                return block
            if not self._packed and not self._member.eof:
                self._packed = self._file.read(_CHUNK_IN)
                if not self._packed:
                    raise zlib.error("the stream is cut off")


def _read(path: Path, max_bytes: int, check: _Check | None = None) -> np.ndarray:
    """Read the IDX file `path`; `check` may refuse the header's type and shape before the data."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
        _refuse(path, "a regular file", "a folder or a device")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        gzipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        source = _GzipSource(file, size) if gzipped else _PlainSource(file, size)
        try:
            return _read_array(path, source, max_bytes, check)
        except zlib.error as error:
            raise ValueError(f"{path}: expected a sound gzip stream, got: {error}") from error


def _read_array(
    path: Path, source: _PlainSource | _GzipSource, max_bytes: int, check: _Check | None
) -> np.ndarray:
    """Read one IDX file from `source`, up to and including the proof that nothing follows."""
    dtype, shape = _read_header(path, source)
    if check is not None:
        check(dtype, shape)

    promised = dtype.itemsize * math.prod(shape)
    what = f"{promised} bytes of data ({dtype.name}, shape {shape})"
    # Sizes of zero are counted as one: NumPy refuses (0, 2**32 - 1, 2**32 - 1) as too big.
    if dtype.itemsize * math.prod(max(n, 1) for n in shape) > max_bytes:
        _refuse(path, f"a header of at most max_bytes={max_bytes}", f"one that promises {what}")
    header_size = 4 + 4 * len(shape)
    if header_size + promised > source.capacity:
        _refuse(path, what, f"at most {source.capacity - header_size}, by the file's size")

    data = np.empty(promised, dtype=np.uint8)
    arrived = source.readinto(memoryview(data))
    if arrived < promised:
        _refuse(path, what, f"{arrived}")
    if source.readinto(memoryview(bytearray(1))):
        _refuse(path, what, "at least one byte more")

    array = data.view(dtype).reshape(shape)
    if sys.byteorder == "little":
        array.byteswap(inplace=True)
    return array


def _read_header(
    path: Path, source: _PlainSource | _GzipSource
) -> tuple[np.dtype, tuple[int, ...]]:
    """Read the magic number and the dimensions' sizes."""
    magic = bytearray(4)
    arrived = source.readinto(memoryview(magic))
    if arrived < 4:
        _refuse(path, "an IDX file, which begins with 4 bytes of magic number", f"{arrived} bytes")
    if magic[:2] != b"\0\0":
        _refuse(path, "an IDX file, which begins with the bytes 00 00", magic[:2].hex(" "))
    dtype = _ELEMENT_TYPES.get(magic[2])
    if dtype is None:
        known = ", ".join(f"0x{code:02x} {known.name}" for code, known in _ELEMENT_TYPES.items())
        _refuse(path, f"an IDX element type ({known})", f"0x{magic[2]:02x}")
    n_dimensions = magic[3]
    if not 1 <= n_dimensions <= _MAX_DIMENSIONS:
        _refuse(path, f"1 to {_MAX_DIMENSIONS} dimensions", f"{n_dimensions}")
    sizes = bytearray(4 * n_dimensions)
    arrived = source.readinto(memoryview(sizes))
    if arrived < len(sizes):
        _refuse(path, f"{len(sizes)} bytes of dimensions", f"{arrived}")
    return dtype, struct.unpack(f">{n_dimensions}I", sizes)


def _refuse(path: Path, expected: str, got: str) -> NoReturn:
    raise ValueError(f"{path}: expected {expected}, got {got}")


# --------------------------------------------------------------------------- MNIST


def _find_mnist(folder: Path, part: str, kind: str) -> Path:
    """Return the file of `part` ("train" or "t10k") and `kind` ("images" or "labels")."""
    rank = {"images": 3, "labels": 1}[kind]
    names = [
        f"{part}-{kind}{separator}idx{rank}-ubyte{suffix}"
        for separator in "-."
        for suffix in ("", ".gz")
    ]
    for name in names:
        # An archive in circulation has folders under these names beside the files.
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder}: expected one of {', '.join(names)}; none is there")


def _read_mnist_pair(image_path: Path, label_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of images and the file of their labels, and hold one against the other."""

    def check_labels(dtype: np.dtype, shape: tuple[int, ...]) -> None:
        if dtype != np.uint8 or len(shape) != 1 or shape[0] == 0:
            _refuse(label_path, "labels (uint8, shape (n,))", f"{dtype.name} of shape {shape}")

    def check_images(dtype: np.dtype, shape: tuple[int, ...]) -> None:
        if dtype != np.uint8 or shape[1:] != (_MNIST_SIDE, _MNIST_SIDE):
            expected = f"images (uint8, shape (n, {_MNIST_SIDE}, {_MNIST_SIDE}))"
            _refuse(image_path, expected, f"{dtype.name} of shape {shape}")
        if shape[0] != len(labels):
            expected = f"{len(labels)} images, as {label_path.name} has labels"
            _refuse(image_path, expected, f"{shape[0]}")

    # Labels first: they are small, and then say how many images may be unpacked.
    labels = _read(label_path, _MAX_BYTES, check_labels)
    if labels.max() >= _MNIST_CLASSES:
        _refuse(label_path, f"labels from 0 to {_MNIST_CLASSES - 1}", f"{labels.max()}")
    images = _read(image_path, _MAX_BYTES, check_images)
    return images.reshape(len(images), -1), labels.astype(np.int64)
