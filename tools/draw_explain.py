"""Draw docs/explain.png: the page of the hand-worked example, at the deltas of the hidden layer.

Usage: python tools/draw_explain.py (with the "browser" extra; CYMLP_CHROMIUM may name a browser)
"""

import os
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser.nets import worked_trace  # noqa: E402

STEP = 8


def main():
    found = subprocess.run(
        [ROOT / "tools" / "find_chromium.sh"], check=True, stdout=subprocess.PIPE, text=True
    )
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found.stdout.strip(), args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 640}, reduced_motion="reduce")
        page.set_content(worked_trace().to_html())
        page.evaluate(f"goTo({STEP})")
        page.screenshot(path=ROOT / "docs" / "explain.png")
        browser.close()


if __name__ == "__main__":
    main()
