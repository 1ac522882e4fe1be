from typing import Any

import numpy as np

def is_plain_matrix(x: object, dtype: np.dtype[Any], n_columns: int | None = None) -> bool: ...
