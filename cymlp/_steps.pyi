from collections.abc import Mapping

SCHEDULES: dict[str, int]

def scheduled(fields: Mapping[str, float], step: int) -> float: ...
