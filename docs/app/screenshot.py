"""Takes the pictures of docs/app.md: the page of the embedded checkpoint, in Debian's Chromium.

pip install '.[app]' playwright, apt-get install chromium, and then: python docs/app/screenshot.py
"""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from hf_zspa.app.answering import Answering
from hf_zspa.app.page import build
from hf_zspa.app.serve import serve

IMAGES = Path(__file__).parents[1] / "images"
WIDTHS = {"app": (1280, 1), "app-phone": (390, 1.5)}  # pixels of CSS, and of the picture for each
QUESTION = "is the pink sign above or below the cyan circle ?"


def main() -> None:
    page = build(Answering("embedded"))
    url = serve(page)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, scale) in WIDTHS.items():
            window = browser.new_page(viewport={"width": width, "height": 844}, device_scale_factor=scale)
            window.goto(url)
            window.get_by_role("button", name=QUESTION).click()
            window.locator("img[src*='relation.png']").wait_for()
            for _ in range(2):  # the first answer to a question takes longer than the next
                window.get_by_role("button", name="Ask", exact=True).click()
                window.locator(".zspa dd").filter(has_text="s").nth(3).wait_for()
                window.wait_for_timeout(1000)
            picture = Image.open(io.BytesIO(window.screenshot(full_page=True)))
            picture.convert("RGB").save(IMAGES / f"{name}.webp", quality=85, method=6)
        browser.close()
    page.close(verbose=False)


if __name__ == "__main__":
    main()
