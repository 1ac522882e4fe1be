"""Checks of the arrays and hyperparameters that users pass in: each names the argument."""

from __future__ import annotations

import mmap
import numbers
import operator
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np

from cymlp._arrays import is_plain_matrix

Spec = TypeVar("Spec")

DTYPES = ("float32", "float64")

#: Where targets of a loss may lie, by its `Loss.target_range`; an open end is 0.
RANGES = {
    "any": (-np.inf, np.inf),
    "[-1, 1]": (-1.0, 1.0),
    "[0, 1]": (0.0, 1.0),
    "[0, inf)": (0.0, np.inf),
    "(0, inf)": (0.0, np.inf),
}
MAX_THREADS = 1024


def _reject(name: str, value: Any, expected: str, error: type[Exception] = ValueError) -> NoReturn:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    raise error(f"{name} must be {expected}, got {shown}") from None


def integer(
    name: str, value: Any, *, low: int, high: int | None = None, or_none: bool = False
) -> int:
    """Return value as an int within [low, high]; or_none: say that the caller takes None too."""
    if type(value) is int and low <= value and (high is None or value <= high):
        return value
    expected = f"an integer of at least {low}"
    expected += "" if high is None else f" and at most {high}"
    expected += ", or None" if or_none else ""
    if isinstance(value, (bool, np.bool_)):
        _reject(name, value, expected, TypeError)
    try:
        number = operator.index(value)
    except TypeError:
        _reject(name, value, expected, TypeError)
    if number < low or (high is not None and number > high):
        _reject(name, value, expected)
    return number


def thread_count(name: str, value: Any) -> int:
    """Return a number of threads, 0 for None."""
    return 0 if value is None else integer(name, value, low=1, high=MAX_THREADS, or_none=True)


def real(
    name: str,
    value: Any,
    *,
    low: float,
    high: float = np.inf,
    closed: str = "left",
    or_else: str = "",
) -> float:
    """Return value as a float between low and high; closed: "left", "both" or "neither" ends.

    or_else: what else the caller takes.
    """
    if type(value) is float and low < value < high:
        return value
    expected = f"a number {'greater than' if closed == 'neither' else 'of at least'} {low:g}"
    if low == -np.inf:
        expected = "a finite number"
    if high < np.inf:
        expected += f" and {'at most' if closed == 'both' else 'less than'} {high:g}"
    expected += f", or {or_else}" if or_else else ""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        _reject(name, value, expected, TypeError)
    number = float(value)
    above = number > low if closed == "neither" else number >= low
    below = number <= high if closed == "both" else number < high
    if not (above and below):
        _reject(name, value, expected)
    return number


def boolean(name: str, value: Any) -> bool:
    """Return value, which must be True or False."""
    if not isinstance(value, (bool, np.bool_)):
        _reject(name, value, "True or False", TypeError)
    return bool(value)


def dtype(name: str, value: Any) -> np.dtype:
    """Return value as one of the two dtypes that networks have."""
    try:
        result = np.dtype(value)
    except TypeError:
        _reject(name, value, f"one of {', '.join(DTYPES)}", TypeError)
    if result.name not in DTYPES or value is None:
        _reject(name, value, f"one of {', '.join(DTYPES)}")
    return result.newbyteorder("=")


def function(name: str, value: Any) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        _reject(name, value, "a function", TypeError)


def new_name(name: str, value: Any, known: Mapping[str, Any]) -> None:
    """Refuse what is no name for a user's own spec: no string, an empty one, a known name."""
    if not isinstance(value, str):
        _reject(name, value, "a string", TypeError)
    if not value or value in known:
        _reject(name, value, f"a name of its own, none of {', '.join(known)}")


def spec(
    name: str, value: Any, known: Mapping[str, type[Spec]], own: type[Spec] | None = None
) -> Spec:
    """Return a spec: an instance of one of the known classes, or the default one of a name.

    own: the class of specs that users make of their own functions, if there is one.
    """
    classes = (*dict.fromkeys(known.values()), *([own] if own else []))
    if isinstance(value, classes):
        return value
    names = ", ".join(known)
    if isinstance(value, str):
        if value not in known:
            _reject(name, value, f"one of {names}")
        try:
            return known[value]()
        except TypeError:  # it has arguments without a default
            _reject(name, value, f"an instance, {known[value].__name__}(...)")
    if isinstance(value, type) and issubclass(value, classes):
        _reject(name, value, f"an instance, {value.__name__}(...)", TypeError)
    kinds = ", ".join(dict.fromkeys(kind.__name__ for kind in classes))
    _reject(name, value, f"one of {names}, or an instance of one of {kinds}", TypeError)


def seed(name: str, value: Any) -> int:
    """Return a random state (None, int, Generator or RandomState) as a seed below 2**63."""
    if value is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    if isinstance(value, np.random.Generator):
        return int(value.integers(2**63))
    if isinstance(value, np.random.RandomState):
        return int(value.randint(2**31 - 1))
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        expected = "None, an integer, a numpy Generator or a RandomState"
        _reject(name, value, expected, TypeError)
    return integer(name, value, low=0, high=2**63 - 1)


def numeric(name: str, value: Any, *, if_strings: str = "") -> np.ndarray:
    """Return value as an array of booleans or real numbers.

    An error about strings ends with if_strings.
    """
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        return value
    if value is None or isinstance(value, (dict, set, str, bytes)):
        _reject(name, value, "an array", TypeError)
    _check_frame(name, value, if_strings)
    if is_sparse(value):
        raise TypeError(
            f"{name} must be dense, got the sparse {type(value).__name__}; call .toarray() first"
        )
    if np.ma.is_masked(value):
        raise ValueError(
            f"{name} must not be masked, got {np.ma.count_masked(value)} masked values"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be a rectangular array: {error}") from None
    if array.dtype == object:
        if any(isinstance(item, (str, bytes)) for item in array.flat):
            raise TypeError(f"{name} must be numeric, got an array with strings{if_strings}")
        _refuse_missing(name, array)
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must be numeric, got an array of objects: {error}") from None
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be real, got dtype {array.dtype}")
    if array.dtype.kind not in "biuf":
        hint = if_strings if array.dtype.kind in "SUT" else ""
        raise TypeError(f"{name} must be numeric, got dtype {array.dtype}{hint}")
    return array


def _check_frame(name: str, value: Any, if_strings: str) -> None:
    """Refuse columns of a pandas or polars data frame that are no numbers, by their names."""
    if not hasattr(value, "columns") or not hasattr(value, "dtypes"):
        return
    for column, kind in zip(value.columns, value.dtypes, strict=True):
        if hasattr(kind, "is_numeric"):  # polars
            is_number = kind.is_numeric() or str(kind) == "Boolean"
        else:  # what a pandas column of objects holds is seen when it is converted
            is_number = kind.kind in "biuf" or str(kind) == "object"
        if not is_number:
            hint = if_strings or "; encode it as numbers first"
            raise TypeError(f"{name} must be numeric, got column {column!r} of dtype {kind}{hint}")
    if hasattr(value, "null_count"):  # polars makes NaN of them
        for column in value.columns:
            if n_missing := value[column].null_count():
                raise ValueError(
                    f"{name} must not have missing values, got {n_missing} in column {column!r}"
                )


def _refuse_missing(name: str, array: np.ndarray) -> None:
    """Refuse None, pandas.NA and NaT, which are not numbers, in an array of objects."""
    for where, item in np.ndenumerate(array):
        if item is None or type(item).__name__ in ("NAType", "NaTType"):
            place = where[0] if len(where) == 1 else where
            raise ValueError(f"{name} must not have missing values, got {item} at {place}")


# Bytes that a check converts at once.
_BLOCK = 1 << 20


def _blocks(array: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yield an array in parts that follow its memory, each with the place of its first element."""
    axis = int(np.argmax(np.abs(array.strides))) if array.ndim else 0
    if array.size * array.itemsize <= _BLOCK:
        yield (0,) * array.ndim, array
        return
    length = max(1, _BLOCK * array.shape[axis] // (array.size * array.itemsize))
    for start in range(0, array.shape[axis], length):
        place = [0] * array.ndim
        place[axis] = start
        part = [slice(None)] * array.ndim
        part[axis] = slice(start, start + length)
        yield tuple(place), array[tuple(part)]


def is_finite(array: np.ndarray, kind: np.dtype | None = None) -> bool:
    """Whether an array is finite once it is of a dtype, its own by default."""
    if array.dtype.kind != "f":
        return True
    # A finite sum proves that every element is finite, without an array of booleans.
    with np.errstate(over="ignore", invalid="ignore"):
        if (kind is None or kind == array.dtype) and np.isfinite(array.sum()):
            return True
        for _, block in _blocks(array):
            block = block if kind is None else block.astype(kind, copy=False)
            if not np.isfinite(block.sum()) and not np.isfinite(block).all():
                return False
    return True


def _require_finite(name: str, array: np.ndarray) -> None:
    if is_finite(array):
        return
    count, first = 0, array.shape
    for place, block in _blocks(array):
        bad = ~np.isfinite(block)
        if found := int(np.count_nonzero(bad)):
            count += found
            inside = np.unravel_index(np.argmax(bad), block.shape)
            first = min(first, tuple(int(a) + b for a, b in zip(inside, place, strict=True)))
    raise ValueError(
        f"{name} must be finite, got {array[first]} at "
        f"{first[0] if len(first) == 1 else first} and {count} non-finite values in all"
    )


def _refuse_too_large(name: str, array: np.ndarray, kind: np.dtype) -> NoReturn:
    _require_finite(name, array)  # the user's own value, unless the conversion made it infinite
    raise ValueError(
        f"{name} holds values too large for {kind.name}: at most {np.finfo(kind).max:.3g}"
    )


def _as(name: str, array: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Return an array as a dtype: native, aligned, finite."""
    with np.errstate(over="ignore"):
        out = array.astype(kind, copy=False)
    if not out.flags.aligned:
        out = out.copy()
    if not is_finite(out):
        _refuse_too_large(name, array, kind)
    return out


def _check_scaled(name: str, array: np.ndarray, kind: np.dtype, scale: float) -> None:
    """Refuse what a scale makes infinite in a dtype."""
    if scale <= 1:
        return
    largest = max(-float(array.min()), float(array.max()))
    most = float(np.finfo(kind).max)
    if largest > most / scale * (1 - 1e-12):
        raise ValueError(
            f"{name} times input_scale must be at most {most:.3g}, got {largest:g} times {scale:g}"
        )


def scale(name: str, value: Any, kind: np.dtype) -> float:
    """Return what inputs are multiplied by: a number greater than 0 in a dtype."""
    number = real(name, value, low=0, closed="neither")
    if not float(np.finfo(kind).tiny) <= number <= float(np.finfo(kind).max):
        _reject(name, value, f"a normal number of {kind.name}")
    return number


def finite(name: str, value: Any, kind: np.dtype | None = None) -> np.ndarray:
    """Return value as an array of finite numbers, of a dtype; float64 by default."""
    return _as(name, numeric(name, value), np.dtype(np.float64) if kind is None else kind)


def matrix(
    name: str, value: Any, kind: np.dtype, n_columns: int | None = None, scale: float = 1.0
) -> np.ndarray:
    """Return samples as a non-empty finite 2-D array of a dtype with contiguous columns.

    Nothing is copied where the array has the dtype and contiguous columns already. The values must
    be finite times the scale, too.
    """
    if not is_plain_matrix(value, kind, n_columns):
        value = _contiguous(_as(name, _samples(name, value, n_columns), kind))
    _check_scaled(name, value, kind, scale)
    return value


def _contiguous(array: np.ndarray) -> np.ndarray:
    """Return an array with contiguous columns."""
    if array.shape[1] > 1 and array.strides[1] != array.itemsize:
        return np.ascontiguousarray(array)
    return array


def _samples(name: str, value: Any, n_columns: int | None) -> np.ndarray:
    """Return samples as a non-empty 2-D array of numbers."""
    array = numeric(name, value)
    if array.ndim != 2:
        hint = " (one sample: reshape(1, -1))" if array.ndim == 1 and array.size else ""
        raise ValueError(
            f"{name} must be 2-D, (samples, features), got {array.ndim}-D of shape "
            f"{array.shape}{hint}"
        )
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    _check_columns(name, array.shape[1], n_columns)
    return array


class SparseRows(NamedTuple):
    """Samples as their non-zeros, row by row.

    Attributes
    ----------
    shape : (int, int)
        Samples and columns.
    row_starts : ndarray of shape (samples + 1,), int64
        Where the non-zeros of each sample begin, and the last ones end.
    columns : ndarray of shape (non-zeros,), int32
        Ascending within a sample.
    values : ndarray of shape (non-zeros,), of the network's dtype
        Multiplied by the network's input scale.
    """

    shape: tuple[int, int]
    row_starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.shape[0]

    def rows(self, start: int, stop: int) -> SparseRows:
        """Return some of the samples, without a copy of their non-zeros."""
        starts = self.row_starts[start : stop + 1]
        there = slice(starts[0], starts[-1])
        return SparseRows(
            (stop - start, self.shape[1]),
            starts - starts[0],
            self.columns[there],
            self.values[there],
        )

    def picked(self, rows: np.ndarray) -> SparseRows:
        """Return a copy of samples, by their numbers."""
        counts = np.diff(self.row_starts)[rows]
        starts = np.concatenate(([0], np.cumsum(counts)))
        # Where each non-zero stands here: by as much later as its sample begins later.
        places = np.arange(starts[-1]) + np.repeat(self.row_starts[rows] - starts[:-1], counts)
        return SparseRows(
            (len(rows), self.shape[1]), starts, self.columns[places], self.values[places]
        )

    def dense(self, kind: Any) -> np.ndarray:
        """Return the samples with their zeros, in a dtype."""
        rows = np.zeros(self.shape, kind)
        rows[np.repeat(np.arange(len(self)), np.diff(self.row_starts)), self.columns] = self.values
        return rows


def is_sparse(value: Any) -> bool:
    """Return whether value is a matrix or array of scipy.sparse."""
    return hasattr(value, "toarray") and hasattr(value, "tocsr")


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array stands in a file that is mapped into memory."""
    owner: Any = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    return owner is not None


def inputs(
    name: str, value: Any, kind: np.dtype, n_columns: int | None = None, scale: float = 1.0
) -> np.ndarray | SparseRows:
    """Return samples in one of the forms that the core reads.

    Bytes, and whatever stands in a mapped file, as they are: the core converts them row by row.
    A scipy.sparse matrix as its non-zeros, whose places are copied, since they will be followed.
    Anything else as `matrix` returns it. The scale is the network's input scale.
    """
    if is_sparse(value):
        return _sparse_rows(name, value, kind, n_columns, scale)
    if is_plain_matrix(value, kind, n_columns):
        array = value
    else:
        array = _samples(name, value, n_columns)
        mapped = is_mapped(array)
        if array.dtype == np.bool_:
            array = array.view(np.uint8)
        if array.dtype == np.uint8:
            array = array if mapped else _contiguous(array)
        elif mapped:
            if not is_finite(array, kind):
                _refuse_too_large(name, array, kind)
        else:
            array = _contiguous(_as(name, array, kind))
    _check_scaled(name, array, kind, scale)
    return array


def _sparse_rows(
    name: str, value: Any, kind: np.dtype, n_columns: int | None, scale: float
) -> SparseRows:
    if len(value.shape) != 2:
        raise ValueError(f"{name} must be 2-D, (samples, features), got {len(value.shape)}-D")
    if value.shape[0] == 0 or value.shape[1] == 0:
        raise ValueError(f"{name} must not be empty, got shape {value.shape}")
    _check_columns(name, value.shape[1], n_columns)
    csr = value.tocsr()
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    values = _as(name, numeric(name, csr.data), kind)
    if scale != 1 and len(values):
        _check_scaled(name, values, kind, scale)
        values = values * kind.type(scale)
    return SparseRows(
        (int(value.shape[0]), int(value.shape[1])),
        np.array(csr.indptr, np.int64),
        np.array(csr.indices, np.int32),
        np.ascontiguousarray(values),
    )


def _check_columns(name: str, columns: int, expected: int | None) -> None:
    if expected is not None and columns != expected:
        raise ValueError(
            f"{name} must have {expected} columns, as many as the network has inputs, got {columns}"
        )


def _same_length(name: str, array: np.ndarray, n_rows: int) -> None:
    if len(array) != n_rows:
        raise ValueError(
            f"{name} must have as many rows as X, which has {n_rows}, got {len(array)}"
        )


def class_labels(name: str, array: np.ndarray, n_rows: int, n_classes: int) -> np.ndarray:
    """Return labels of a numeric 1-D array, within [0, n_classes), as a private int32 copy."""
    _same_length(name, array, n_rows)
    if array.dtype.kind == "f":
        _require_finite(name, array)
        if not np.equal(array, np.floor(array)).all():
            raise ValueError(f"{name} must hold whole class labels, got {array.dtype} fractions")
    low, high = array.min(), array.max()
    if low < 0 or high >= n_classes:
        wrong = low if low < 0 else high
        raise ValueError(
            f"{name} must hold class labels from 0 to {n_classes - 1}, as the network has "
            f"{n_classes} output{'s' if n_classes > 1 else ''}, got {wrong:g}"
        )
    return np.array(array, np.int32)


def target_values(
    name: str,
    array: np.ndarray,
    n_rows: int,
    n_columns: int,
    kind: np.dtype,
    target_range: str,
    hint: str = "",
) -> np.ndarray:
    """Return a numeric array as (n_rows, n_columns) of a dtype; 1-D goes for one column.

    target_range is a key of RANGES. The hint is what an error about the shape ends with.
    """
    if array.ndim == 1 and n_columns == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != n_columns:
        expected = f"({n_rows}, {n_columns})" + (f" or ({n_rows},)" if n_columns == 1 else "")
        raise ValueError(
            f"{name} must have shape {expected}, a column per output, got {array.shape}{hint}"
        )
    _same_length(name, array, n_rows)
    if not is_plain_matrix(array, kind):
        array = np.ascontiguousarray(_as(name, array, kind))
    low, high = RANGES[target_range]
    if array.min() < low or array.max() > high or (array.min() == 0 and target_range[0] == "("):
        wrong = array.max() if array.max() > high else array.min()
        raise ValueError(f"{name} must lie within {target_range}, got {wrong:g}")
    return array


def sample_weights(name: str, value: Any, n_rows: int) -> np.ndarray:
    """Return non-negative weights, not all zero, as float64."""
    array = numeric(name, value)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, a weight per sample, got shape {array.shape}")
    _same_length(name, array, n_rows)
    array = np.ascontiguousarray(_as(name, array, np.dtype(np.float64)))
    if array.min() < 0:
        raise ValueError(f"{name} must not be negative, got {array.min():g}")
    if array.max() == 0:
        raise ValueError(f"{name} must not be all zero")
    with np.errstate(over="ignore"):
        if not np.isfinite(array.sum()):
            raise ValueError(f"{name} must have a finite sum, got values up to {array.max():g}")
    return array


def parameter_list(
    name: str, value: Any, shapes: list[tuple[int, ...]], kind: np.dtype
) -> list[np.ndarray]:
    """Return a list of arrays of given shapes."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__len__"):
        _reject(name, type(value).__name__, "a list of arrays", TypeError)
    if len(value) != len(shapes):
        raise ValueError(f"{name} must have {len(shapes)} arrays, got {len(value)}")
    arrays = []
    for index, (item, shape) in enumerate(zip(value, shapes, strict=True)):
        array = numeric(f"{name}[{index}]", item)
        if array.shape != shape:
            raise ValueError(f"{name}[{index}] must have shape {shape}, got {array.shape}")
        arrays.append(_as(f"{name}[{index}]", array, kind))
    return arrays
