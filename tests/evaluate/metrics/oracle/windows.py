"""Grey images and what is seen of them through windows."""

import numpy as np


def grey(rgb):
    """MATLAB's rgb2gray of uint8 `(H, W, 3)`."""
    weights = np.array([0.298936021293776, 0.587043074451121, 0.114020904255103])
    return np.floor(rgb.astype(np.float64) @ weights + 0.5)


def gaussian(n, sigma):
    """`(n, n)`, summing to one."""
    offsets = np.arange(n) - (n - 1) / 2
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * sigma**2))
    return window / window.sum()


def cells(image, n):
    """Each cell of the whole n x n windows: (row, column, the image seen through it)."""
    height, width = image.shape[0] - n + 1, image.shape[1] - n + 1
    for i in range(n):
        for j in range(n):
            yield i, j, image[i : i + height, j : j + width]


def filtered(image, window):
    """Correlation with an odd square window, whole windows only."""
    return sum(window[i, j] * cell for i, j, cell in cells(image, len(window)))


def same(image, window, mode="constant"):
    """Correlation that keeps the size, borders extended with zeros or by np.pad's `mode`."""
    return filtered(np.pad(image, len(window) // 2, mode=mode), window)


def moments(x, y, window):
    """Local means, variances and covariance, from deviations: exactly 0 in a flat window."""
    n = len(window)
    mx, my = (image[n // 2 : 1 - n // 2 - n % 2, n // 2 : 1 - n // 2 - n % 2] for image in (x, y))
    mx = mx + sum(window[i, j] * (cell - mx) for i, j, cell in cells(x, n))
    my = my + sum(window[i, j] * (cell - my) for i, j, cell in cells(y, n))
    vx, vy, c = (np.zeros_like(mx) for _ in range(3))
    for (i, j, a), (_, _, b) in zip(cells(x, n), cells(y, n), strict=True):
        vx += window[i, j] * (a - mx) ** 2
        vy += window[i, j] * (b - my) ** 2
        c += window[i, j] * (a - mx) * (b - my)
    return mx, my, vx, vy, c


def halved(image):
    """Means of 2 x 2 pixels; a last odd row or column is paired with itself."""
    image = np.pad(image, [(0, side % 2) for side in image.shape], mode="edge")
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def stretched(image):
    """Min-max to 0..255, rounded half up."""
    low, high = image.min(), image.max()
    return np.floor((image - low) / (high - low) * 255 + 0.5) if high > low else 0 * image
