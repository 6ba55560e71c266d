"""What the tests of the page do again and again."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

Picture = NDArray[np.int16]

#: A pixel that changes by less, of 255, has not changed: graphics round.
SAME_COLOUR = 20
#: Pictures of which fewer pixels changed look the same; the thinnest path is more.
SAME_SHARE = 5e-4


def take_example(page: Page, formula: str) -> None:
    """Press an example and wait until its result is there, picture and all."""
    page.locator("ul.examples").get_by_role("button", name=formula).click()
    expect(page.locator("#barrier")).to_contain_text("eV")
    expect(page.get_by_role("list", name="Colours of the atoms").get_by_role("listitem").first).to_be_visible()


def picture(page: Page) -> Picture:
    """The drawn crystal as it looks now, shape [height, width, 3]."""
    data: str = page.evaluate("() => document.querySelector('#view canvas').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def look_alike(one: Picture, other: Picture) -> bool:
    """Whether two pictures show the same."""
    changed = np.abs(one - other).max(axis=2) > SAME_COLOUR
    return bool(changed.mean() < SAME_SHARE)
