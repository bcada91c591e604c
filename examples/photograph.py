"""A photograph through a bank of depthwise filters: saves a contact sheet and prints the speed.

python examples/photograph.py [PATH]      PATH of the sheet, else build/photograph.png
"""

import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageDraw, ImageFont

from depthwise import depthwise_conv2d, get_num_threads

SIZE = 7  # the filters are SIZE x SIZE
NAMES = ["blur", "sharpen", "vertical edges", "horizontal edges", "emboss"]
# What a flat area becomes: edges are positive on one side and negative on the other.
FLAT = np.array([0, 0, 0.5, 0.5, 0.5], np.float32)
STRIDE, DILATION = 2, 3


def make_filters() -> np.ndarray:
    """Return the filters of NAMES for one channel, [SIZE, SIZE, 5], all made of a bell curve."""
    position = np.arange(SIZE) - SIZE // 2
    bell = np.exp(-(position**2) / (2 * 1.4**2))
    bell /= bell.sum()
    slope = position * bell
    unchanged = np.outer(position == 0, position == 0)
    blur = np.outer(bell, bell)
    sharpen = unchanged + 1.5 * (unchanged - blur)
    across, down = np.outer(bell, slope), np.outer(slope, bell)
    return np.stack([blur, sharpen, 1.4 * across, 1.4 * down, across + down], axis=-1)


def convolve(photograph: np.ndarray, stride: int = 1, dilation: int = 1) -> list[np.ndarray]:
    """Return one image for each filter, and print how long that took."""
    # Red, green and blue get the same five filters: the channel multiplier is 5.
    filter = np.repeat(make_filters()[:, :, np.newaxis], 3, axis=2).astype(np.float32)
    # padding="SAME" would put zeros around the photograph, and a filter for edges would see a black
    # frame; repeating the outermost pixels leaves no edge there.
    margin = SIZE // 2 * dilation
    input = np.pad(photograph, [(margin, margin), (margin, margin), (0, 0)], "edge")[np.newaxis]

    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        output = depthwise_conv2d(
            input,
            filter,
            strides=[1, stride, stride, 1],
            padding="VALID",
            dilations=[dilation, dilation],
        )
        seconds.append(time.perf_counter() - start)

    _, height, width, out_channels = output.shape
    operations = 2 * SIZE * SIZE * output.size  # each tap is a multiplication and an addition
    print(
        f"stride {stride}, dilation {dilation}: {height} x {width} x {out_channels} values in "
        f"{median(seconds) * 1e3:.1f} ms, {operations / median(seconds) / 1e9:.0f} GFLOP/s"
    )
    # Output channel k * 5 + q is filter q of colour k.
    images = output.reshape(height, width, 3, len(NAMES)) + FLAT
    return list(np.moveaxis(images, -1, 0))


def mosaic(images: list[np.ndarray]) -> np.ndarray:
    """Join four images of the same size in two rows."""
    return np.vstack([np.hstack(images[:2]), np.hstack(images[2:])])


def to_picture(image: np.ndarray) -> Image.Image:
    """Turn values from 0 to 1 into a picture of half the size."""
    return Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8)).reduce(2)


def contact_sheet(pictures: dict[str, Image.Image], columns: int = 4) -> Image.Image:
    """Lay out pictures of one size on a dark sheet, each with its label below."""
    margin, label_height = 16, 26
    width, height = next(iter(pictures.values())).size
    across, down = width + margin, height + label_height + margin
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * across + margin, rows * down + margin), "#17191c")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for number, (label, picture) in enumerate(pictures.items()):
        left, top = margin + number % columns * across, margin + number // columns * down
        sheet.paste(picture, (left, top))
        draw.text((left, top + height + 8), label, "#d9dce0", font)
    return sheet


def main() -> None:
    """Convolve the photograph in three ways, and save the sheet."""
    root = Path(__file__).parent.parent
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "build" / "photograph.png"
    # Rear Admiral Grace Hopper, by the US Navy, in the public domain. Values from 0 to 1.
    file = get_sample_data("grace_hopper.jpg", asfileobj=False)
    photograph = np.asarray(Image.open(file), np.float32) / 255
    height, width, _ = photograph.shape
    print(f"photograph of {height} x {width} x 3 values, {len(NAMES)} filters of {SIZE} x {SIZE}")
    print(f"for each colour, float32, {get_num_threads()} thread(s)")

    plain = convolve(photograph)
    strided = convolve(photograph, stride=STRIDE)
    dilated = convolve(photograph, dilation=DILATION)

    images = {"photograph": photograph, **dict(zip(NAMES, plain, strict=True))}
    images[f"stride {STRIDE}: half the size"] = mosaic(strided[1:])
    images[f"dilation {DILATION}: emboss"] = dilated[-1]
    sheet = contact_sheet({label: to_picture(image) for label, image in images.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(path, optimize=True)
    print(f"contact sheet: {path}")


if __name__ == "__main__":
    main()
