"""cymlp.datasets: IDX files sound and hostile, MNIST's folder, scikit-learn's digits."""

import gzip
import os
import random
import struct
import sys
import tracemalloc

import numpy as np
import pytest

from cymlp import datasets
from cymlp.datasets import Split, load_digits, load_mnist, read_idx

CODES = {
    "uint8": 0x08,
    "int8": 0x09,
    "int16": 0x0B,
    "int32": 0x0C,
    "float32": 0x0D,
    "float64": 0x0E,
}


def header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def idx(array):
    """The bytes of `array` in an IDX file."""
    return (
        header(CODES[array.dtype.name], *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def pack(content, level=9):
    return gzip.compress(content, level, mtime=0)


@pytest.fixture
def file(tmp_path):
    """Write bytes to a file of `tmp_path` and return its path."""

    def write(content, name="data.idx"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def sample(dtype, shape=(3, 4, 5), seed=0):
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    bounds = np.iinfo(dtype)
    return rng.integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True)


# --------------------------------------------------------------------------- read_idx: sound files


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("dtype", CODES)
def test_every_element_type_is_read(file, dtype, packed):
    expected = sample(dtype)
    content = pack(idx(expected)) if packed else idx(expected)
    array = read_idx(file(content))
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == np.dtype(dtype) and array.dtype.isnative
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned


def test_integers_are_big_endian(file):
    content = header(CODES["int16"], 2) + b"\x01\x02\xff\xfe"
    assert read_idx(file(content)).tolist() == [0x0102, -2]


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), (2, 1, 3, 1, 2), (0,), (0, 28, 28), (3, 0)])
def test_every_shape_is_read(file, shape):
    array = read_idx(file(idx(np.ones(shape, np.float32))))
    assert array.shape == shape and (array == 1).all()


def test_as_many_dimensions_as_numpy_has_everywhere(file):
    assert read_idx(file(idx(np.full((1,) * 32, 7, np.uint8)))).shape == (1,) * 32


@pytest.mark.parametrize("name", ["a.gz", "a.idx", "a", "a.png"])
def test_gzip_is_known_by_its_bytes_not_its_name(file, name):
    array = sample("uint8")
    np.testing.assert_array_equal(read_idx(file(idx(array), name)), array)
    np.testing.assert_array_equal(read_idx(file(pack(idx(array)), name)), array)


@pytest.mark.parametrize("cuts", [(3,), (4, 16), (16,), (17, 40, 41)])
def test_gzip_of_several_members(file, cuts):
    array = sample("uint8")
    content = idx(array)
    pieces = [content[a:b] for a, b in zip((0, *cuts), (*cuts, None), strict=True)]
    path = file(b"".join(map(pack, pieces)) + pack(b""))
    np.testing.assert_array_equal(read_idx(path), array)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_gzip_larger_than_the_chunks(file, level):
    array = np.random.default_rng(1).integers(0, 256, 2_500_003, dtype=np.uint8)
    array[500_000:2_000_000] = 0
    np.testing.assert_array_equal(read_idx(file(pack(idx(array), level))), array)


def test_path_is_text_or_pathlike(file):
    path = file(idx(np.arange(3, dtype=np.uint8)))
    assert read_idx(str(path)).tolist() == read_idx(path).tolist() == [0, 1, 2]


def test_max_bytes_counts_the_data(file):
    path = file(idx(np.arange(5, dtype=np.int32)))
    assert read_idx(path, max_bytes=20).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="max_bytes=19"):
        read_idx(path, max_bytes=19)


# --------------------------------------------------------------------------- read_idx: refusals

GOOD = idx(sample("int16"))  # a header of 16 bytes and 120 of data
PACKED = pack(GOOD)

REFUSED = {
    "empty": (b"", "4 bytes of magic number, got 0 bytes"),
    "three bytes": (b"\0\0\x08", "4 bytes of magic number, got 3 bytes"),
    "other magic": (b"\x89PNG\r\n\x1a\n", "begins with the bytes 00 00, got 89 50"),
    "little-endian magic": (b"\x03\x08\0\0" + GOOD[4:], "00 00, got 03 08"),
    "type 0x0a": (b"\0\0\x0a" + GOOD[3:], "IDX element type .*float32.*, got 0x0a"),
    "type 0": (b"\0\0\0" + GOOD[3:], "IDX element type .*, got 0x00"),
    "type 0xff": (b"\0\0\xff" + GOOD[3:], "IDX element type .*, got 0xff"),
    "no dimensions": (b"\0\0\x08\0\x01", "1 to 32 dimensions, got 0"),
    "33 dimensions": (header(0x08, *[1] * 33) + b"\1", "1 to 32 dimensions, got 33"),
    "255 dimensions": (header(0x08, *[1] * 255) + b"\1", "1 to 32 dimensions, got 255"),
    "header cut": (GOOD[:15], "12 bytes of dimensions, got 11"),
    "header cut at once": (GOOD[:4], "12 bytes of dimensions, got 0"),
    "no data": (GOOD[:16], "120 bytes of data .*int16, shape \\(3, 4, 5\\).*, got at most 0"),
    "one byte short": (GOOD[:-1], "120 bytes of data .*, got at most 119"),
    "one byte more": (GOOD + b"\0", "120 bytes of data .*, got at least one byte more"),
    "twice": (GOOD + GOOD, "120 bytes of data .*, got at least one byte more"),
    "overflow to zero": (header(0x08, 2**31, 2**31, 4), "max_bytes=2147483648, got .*promises"),
    "overflow to 4": (header(0x0C, 2**31 + 1, 2**31 - 1, 4) + b"abcd", "max_bytes=2147483648"),
    "2**1024": (header(0x08, *[2**32 - 1] * 32), "max_bytes=2147483648"),
    "huge beside zero": (header(0x08, 0, 2**32 - 1, 2**32 - 1), "max_bytes=2147483648"),
    "negative": (header(0x08, 2**32 - 1), "max_bytes=2147483648, got .*4294967295"),
    "two gigabytes": (header(0x08, 2**31), "2147483648 bytes of data .*, got at most 0"),
    "gzip: header alone": (PACKED[:10], "sound gzip stream, got: the stream is cut off"),
    "gzip: magic alone": (PACKED[:2], "the stream is cut off"),
    "gzip: no checksum": (PACKED[:-8], "the stream is cut off"),
    "gzip: half a checksum": (PACKED[:-5], "the stream is cut off"),
    "gzip: no length": (PACKED[:-4], "the stream is cut off"),
    "gzip: cut": (PACKED[: len(PACKED) // 2], "the stream is cut off"),
    "gzip: CRC": (PACKED[:-8] + bytes([PACKED[-8] ^ 1]) + PACKED[-7:], "incorrect data check"),
    "gzip: length": (PACKED[:-1] + b"\x7f", "incorrect length check"),
    "gzip: method": (PACKED[:2] + b"\x07" + PACKED[3:], "unknown compression method"),
    "gzip: blocks": (PACKED[:10] + b"\xff" * 200, "sound gzip stream, got: .*invalid block type"),
    "gzip: junk behind": (PACKED + b"junk", "sound gzip stream, got: .*incorrect header check"),
    "gzip: member behind": (PACKED + pack(b"\0"), "got at least one byte more"),
    "gzip: of nothing": (pack(b""), "4 bytes of magic number, got 0 bytes"),
    "gzip: of gzip": (pack(PACKED), "begins with the bytes 00 00, got 1f 8b"),
    "gzip: short": (pack(GOOD[:-1]), "120 bytes of data .*, got 119"),
    "gzip: long": (pack(GOOD + b"\0"), "got at least one byte more"),
    "gzip: huge": (pack(header(0x08, 2**31)), "2147483648 bytes of data .*, got at most"),
}


@pytest.mark.parametrize("content, message", REFUSED.values(), ids=REFUSED)
def test_refusal_names_the_file_what_came_and_what_was_expected(file, content, message):
    path = file(content, "some-file")
    with pytest.raises(ValueError, match=message) as refusal:
        read_idx(path)
    text = str(refusal.value)
    assert text.startswith(f"{path}: expected ") and ", got" in text and "\n" not in text


def test_absurd_sizes_reserve_no_memory(file):
    paths = [
        file(REFUSED[name][0], f"{number}")
        for number, name in enumerate(
            ["overflow to zero", "2**1024", "two gigabytes", "negative", "gzip: huge"]
        )
    ]
    tracemalloc.start()
    try:
        for path in paths:
            with pytest.raises(ValueError):
                read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("promised", [100, 100_000])
def test_gzip_bomb_is_unpacked_one_byte_past_its_promise(file, monkeypatch, promised):
    bomb = file(pack(header(0x08, promised) + bytes(50_000_000)))
    unpacked = []
    unpack = datasets._GzipSource._unpack

    def counted(self, most):
        block = unpack(self, most)
        unpacked.append(len(block))
        return block

    monkeypatch.setattr(datasets._GzipSource, "_unpack", counted)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="at least one byte more"):
            read_idx(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert sum(unpacked) == 8 + promised + 1


def test_gzip_that_could_hold_its_promise_but_does_not(file):
    # 100 kB of random bytes could unpack to 100 MB, so that memory is reserved and filled so far.
    noise = random.Random(0).randbytes(100_000)
    with pytest.raises(ValueError, match="100000000 bytes of data .*, got 100000$"):
        read_idx(file(pack(header(0x08, 100_000_000) + noise)))


def test_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.idx"):
        read_idx(tmp_path / "nowhere.idx")


def test_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a regular file"):
        read_idx(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="expected a regular file"):
        read_idx(tmp_path / "pipe")


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev")
def test_device_is_refused():
    with pytest.raises(ValueError, match="expected a regular file"):
        read_idx("/dev/zero")


@pytest.mark.parametrize("path", [None, 3.5, ["a"]])
def test_path_of_another_type(path):
    with pytest.raises(TypeError):
        read_idx(path)


def test_max_bytes_is_a_number_of_bytes(file):
    path = file(GOOD)
    with pytest.raises(ValueError, match="max_bytes: expected zero or more, got -1"):
        read_idx(path, max_bytes=-1)
    for value in (1.5, "1", None):
        with pytest.raises(TypeError, match="max_bytes: expected an integer, got"):
            read_idx(path, max_bytes=value)


def survives(path, content):
    """Read `content` from `path`: an array or a ValueError of one line may come, nothing else."""
    path.write_bytes(content)
    try:
        return read_idx(path)
    except ValueError as refusal:
        assert str(refusal).startswith(f"{path}: expected ") and "\n" not in str(refusal)
        return None


@pytest.mark.parametrize("content", [GOOD, PACKED], ids=["plain", "gzip"])
def test_every_truncation_is_refused(tmp_path, content):
    for length in range(len(content)):
        assert survives(tmp_path / "cut", content[:length]) is None


def test_every_flipped_bit_is_survived(tmp_path):
    for position in range(8 * len(GOOD)):
        content = bytearray(GOOD)
        content[position // 8] ^= 1 << position % 8
        array = survives(tmp_path / "flipped", content)
        if position >= 8 * 16:
            assert array is not None  # plain data have no checksum: another array


def test_every_flipped_bit_of_gzip_is_refused_or_harmless(tmp_path):
    expected = sample("int16")
    for position in range(8 * len(PACKED)):
        content = bytearray(PACKED)
        content[position // 8] ^= 1 << position % 8
        array = survives(tmp_path / "flipped", content)
        if array is not None:  # the time stamp, the bits that fill the last byte
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_random_damage_is_survived(tmp_path, packed):
    rng = random.Random(20)
    for _ in range(1500):
        array = sample(rng.choice(list(CODES)), tuple(rng.choices(range(5), k=rng.randint(1, 4))))
        content = bytearray(idx(array))
        if packed and rng.random() < 0.5:
            damage(content, rng)
        if packed:
            content = bytearray(pack(content, 1))
        damage(content, rng)
        survives(tmp_path / "damaged", content)


def damage(content, rng):
    """Flip, cut, insert or repeat some bytes in place."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(content):
            content[at] = rng.randrange(256)
        elif kind == 1:
            del content[at : at + rng.randint(1, 8)]
        elif kind == 2:
            content[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 3:
            content[at:at] = content[at : at + 20]


def test_random_headers_are_survived(tmp_path):
    rng = random.Random(21)
    sizes = [0, 1, 2, 3, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
    for _ in range(1500):
        shape = rng.choices(sizes, k=rng.randint(0, 40))
        content = header(rng.choice(list(CODES.values())), *shape) + rng.randbytes(rng.randrange(9))
        survives(tmp_path / "header", rng.choice([content, pack(content, 1)]))


# --------------------------------------------------------------------------- load_mnist

NAMES = ("train-images", "train-labels", "t10k-images", "t10k-labels")


def mnist_arrays(n_train=12, n_test=11):
    rng = np.random.default_rng(5)
    return {
        "train-images": rng.integers(0, 256, (n_train, 28, 28), dtype=np.uint8),
        "train-labels": np.arange(n_train, dtype=np.uint8) % 10,
        "t10k-images": rng.integers(0, 256, (n_test, 28, 28), dtype=np.uint8),
        "t10k-labels": np.arange(n_test, dtype=np.uint8) % 10,
    }


def spelling(name, separator="-"):
    return f"{name}{separator}idx{3 if 'images' in name else 1}-ubyte"


@pytest.fixture
def folder(tmp_path):
    """A sound small MNIST, plain files."""
    for name, array in mnist_arrays().items():
        (tmp_path / spelling(name)).write_bytes(idx(array))
    return tmp_path


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("separator", "-.")
def test_mnist_in_every_spelling(tmp_path, separator, packed):
    arrays = mnist_arrays()
    for name, array in arrays.items():
        path = tmp_path / (spelling(name, separator) + (".gz" if packed else ""))
        path.write_bytes(pack(idx(array)) if packed else idx(array))
    data = load_mnist(tmp_path)
    assert isinstance(data, Split)
    for part, X, y in (
        ("train", data.X_train, data.y_train),
        ("t10k", data.X_test, data.y_test),
    ):
        images = arrays[f"{part}-images"]
        assert X.dtype == np.uint8 and X.shape == (len(images), 784) and X.flags.c_contiguous
        np.testing.assert_array_equal(X.reshape(-1, 28, 28), images)
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, arrays[f"{part}-labels"])


def test_mnist_takes_text_and_mixed_spellings(folder):
    name = folder / spelling("train-images")
    name.rename(folder / "train-images.idx3-ubyte")
    labels = folder / spelling("t10k-labels")
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(pack(labels.read_bytes()))
    labels.unlink()
    X_train, y_train, X_test, y_test = load_mnist(str(folder))
    assert X_train.shape == (12, 784) and len(X_test) == len(y_test) == 11 and y_train[-1] == 1


def test_mnist_passes_over_folders_in_the_files_place(folder):
    path = folder / spelling("train-images")
    path.rename(folder / "train-images.idx3-ubyte")
    path.mkdir()
    assert len(load_mnist(folder).X_train) == 12


def test_mnist_prefers_the_plain_file(folder):
    other = mnist_arrays()["t10k-labels"][::-1]
    (folder / (spelling("t10k-labels") + ".gz")).write_bytes(pack(idx(other)))
    assert load_mnist(folder).y_test[0] == 0


@pytest.mark.parametrize("name", NAMES)
def test_mnist_file_missing(folder, name):
    (folder / spelling(name)).unlink()
    with pytest.raises(FileNotFoundError) as refusal:
        load_mnist(folder)
    text = str(refusal.value)
    assert text.startswith(f"{folder}: expected one of {spelling(name)}, {spelling(name)}.gz, ")
    assert spelling(name, ".") + ".gz" in text and "\n" not in text


def test_mnist_folder_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: expected a folder with MNIST's IDX"):
        load_mnist(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="file: expected a folder with MNIST's IDX"):
        load_mnist(tmp_path / "file")


SWAPPED = {
    ("train-images", "train-labels"): r"images \(uint8, shape \(n, 28, 28\)\), got uint8 .*\(12,\)",
    ("train-labels", "train-images"): r"labels \(uint8, shape \(n,\)\), got uint8 .*\(12, 28, 28\)",
    ("t10k-images", "t10k-labels"): r"images \(uint8, shape \(n, 28, 28\)\), got uint8 .*\(11,\)",
    ("t10k-labels", "t10k-images"): r"labels \(uint8, shape \(n,\)\), got uint8 .*\(11, 28, 28\)",
    ("train-images", "t10k-images"): r"12 images, as train-labels-idx1-ubyte has labels, got 11",
    ("t10k-images", "train-images"): r"11 images, as t10k-labels-idx1-ubyte has labels, got 12",
}


@pytest.mark.parametrize("names, message", SWAPPED.items(), ids="<-".join)
def test_mislabelled_file(folder, names, message):
    name, content = names
    path = folder / spelling(name)
    path.write_bytes((folder / spelling(content)).read_bytes())
    with pytest.raises(ValueError, match=message) as refusal:
        load_mnist(folder)
    assert str(refusal.value).startswith(f"{path}: expected ") and "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["train-labels", "t10k-labels"])
def test_labels_out_of_range(folder, name):
    labels = mnist_arrays()[name]
    labels[4] = 10
    (folder / spelling(name)).write_bytes(idx(labels))
    with pytest.raises(ValueError, match=f"{name}.*: expected labels from 0 to 9, got 10"):
        load_mnist(folder)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((12, 28, 27), np.uint8),
        np.zeros((12, 784), np.uint8),
        np.zeros((12, 28, 28), np.float32),
        np.zeros((12, 28, 28), np.int8),
        np.zeros((12, 28, 28, 1), np.uint8),
    ],
    ids=lambda images: f"{images.dtype}{images.shape}",
)
def test_images_of_another_kind(folder, images):
    (folder / spelling("train-images")).write_bytes(idx(images))
    with pytest.raises(ValueError, match=r"expected images \(uint8, shape \(n, 28, 28\)\), got"):
        load_mnist(folder)


@pytest.mark.parametrize(
    "labels",
    [np.zeros(12, np.int32), np.zeros(12, np.int8), np.zeros((12, 1), np.uint8)],
    ids=lambda labels: f"{labels.dtype}{labels.shape}",
)
def test_labels_of_another_kind(folder, labels):
    (folder / spelling("t10k-labels")).write_bytes(idx(labels))
    with pytest.raises(ValueError, match=r"expected labels \(uint8, shape \(n,\)\), got"):
        load_mnist(folder)


def test_empty_sets_are_refused(folder):
    (folder / spelling("t10k-images")).write_bytes(idx(np.zeros((0, 28, 28), np.uint8)))
    (folder / spelling("t10k-labels")).write_bytes(idx(np.zeros(0, np.uint8)))
    with pytest.raises(ValueError, match=r"expected labels .*, got uint8 of shape \(0,\)"):
        load_mnist(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_truncated_file(folder, name, packed):
    path = folder / spelling(name)
    content = path.read_bytes()
    path.write_bytes(pack(content)[:-9] if packed else content[:-1])
    with pytest.raises(ValueError, match=f"{name}.*: expected .*, got"):
        load_mnist(folder)


def test_images_are_refused_by_their_header(folder):
    # A header of 2 GB in a file too short for it: the kind is what the message is about.
    (folder / spelling("train-images")).write_bytes(header(0x08, 2**21, 28, 28))
    with pytest.raises(ValueError, match="expected 12 images, .*, got 2097152"):
        load_mnist(folder)


# --------------------------------------------------------------------------- load_digits


def test_digits():
    pytest.importorskip("sklearn")
    X_train, y_train, X_test, y_test = data = load_digits()
    assert X_train.shape == (1437, 64) and X_test.shape == (360, 64)
    assert X_train.dtype == X_test.dtype == np.float32
    assert y_train.dtype == y_test.dtype == np.int64
    for X in (X_train, X_test):
        assert X.min() == 0 and X.max() == 1
    # Stratified: each class has its share in both.
    total = np.bincount(y_train) + np.bincount(y_test)
    assert total.sum() == 1797
    np.testing.assert_allclose(np.bincount(y_test), total * 360 / 1797, atol=1)
    for first, again in zip(data, load_digits(), strict=True):
        np.testing.assert_array_equal(first, again)


def test_digits_are_split_without_loss():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits as load_bundled

    pixels, labels = load_bundled(return_X_y=True)
    data = load_digits(test_size=500, random_state=7)
    assert len(data.X_test) == 500
    X, y = np.concatenate([data.X_train, data.X_test]), np.concatenate([data.y_train, data.y_test])
    ours, theirs = (np.lexsort((b, *a.T)) for a, b in ((X, y), (pixels, labels)))
    np.testing.assert_array_equal(X[ours] * 16, pixels[theirs])
    np.testing.assert_array_equal(y[ours], labels[theirs])


def test_digits_split_follows_random_state():
    pytest.importorskip("sklearn")
    assert (load_digits(random_state=0).y_test != load_digits(random_state=1).y_test).any()


@pytest.mark.parametrize("test_size", [0, 1.0, -0.1, 1797, 3, "half"])
def test_digits_test_size_is_checked(test_size):
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="test_size|train_size|n_classes|classes"):
        load_digits(test_size=test_size)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "cymlp\[sklearn\]"'):
        load_digits()
