"""Print a wheel's tag, size and compiled files; fail if it lacks one, or has what it should not.

Usage: python tools/check_wheel.py WHEEL
"""

import sys
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

PACKAGE = Path(__file__).resolve().parent.parent / "cymlp"
COMPILED = {path.stem for path in PACKAGE.glob("*.pyx")}
LIMIT = 1_500_000
ALLOWED = {".py", ".pyi", ".typed"}
PAGE = {f"cymlp/page/{path.name}" for path in (PACKAGE / "page").iterdir()}


def check(wheel):
    """Return (lines that describe the wheel, complaints)."""
    with ZipFile(wheel) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
    size = wheel.stat().st_size
    tag = "-".join(wheel.stem.split("-")[-3:])
    report = [f"{wheel.name}", f"  tag   {tag}", f"  size  {size / 1024:.0f} KiB"]
    complaints = []
    if size >= LIMIT:
        complaints.append(f"{size} bytes, and a wheel must have less than {LIMIT}")
    found = set()
    for member in members:
        path = PurePosixPath(member.filename)
        folder = path.parts[0]
        if ".so" in path.suffixes or path.suffix in {".pyd", ".dylib", ".dll"}:
            report.append(f"  {member.file_size / 1024:7.0f} KiB  {path}")
            found.add(path.name.split(".")[0])
        elif folder == "cymlp" and path.suffix not in ALLOWED and str(path) not in PAGE:
            complaints.append(f"{path} does not belong in a wheel")
        elif folder != "cymlp" and not folder.endswith(".dist-info"):
            complaints.append(f"{path} lies outside the package")
    missing = sorted(COMPILED - found)
    if missing:
        complaints.append(f"compiled modules are missing: {', '.join(missing)}")
    names = {member.filename for member in members}
    for stub in sorted(COMPILED):
        if f"cymlp/{stub}.pyi" not in names:
            complaints.append(f"cymlp/{stub}.pyi is missing")
    complaints += [f"{name} is missing" for name in sorted(PAGE - names)]
    if "cymlp/py.typed" not in names:
        complaints.append("cymlp/py.typed is missing")
    return report, complaints


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    report, complaints = check(Path(sys.argv[1]))
    print("\n".join(report))
    if complaints:
        raise SystemExit("\n".join(complaints))


if __name__ == "__main__":
    main()
