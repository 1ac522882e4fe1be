"""Draw docs/explain.png: the page of the hand-worked example, at the deltas of the hidden layer.

Usage: python tools/draw_explain.py (with the "browser" extra; CYMLP_CHROMIUM may name a browser)
"""

import os
import subprocess
from pathlib import Path

from playwright.sync_api import sync_playwright

from cymlp.setting import WORKED_EXAMPLE, explain_setting

ROOT = Path(__file__).resolve().parent.parent
# With the gradients of its sample, whose chain the page shows, not with those that are given.
SETTING = {name: value for name, value in WORKED_EXAMPLE.items() if name != "gradients"}
STEP = 8


def main():
    found = subprocess.run(
        [ROOT / "tools" / "find_chromium.sh"], check=True, stdout=subprocess.PIPE, text=True
    )
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found.stdout.strip(), args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 640}, reduced_motion="reduce")
        page.set_content(explain_setting(SETTING).to_html())
        page.evaluate(f"goTo({STEP})")
        page.screenshot(path=ROOT / "docs" / "explain.png")
        browser.close()


if __name__ == "__main__":
    main()
