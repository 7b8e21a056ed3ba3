"""Every fusion metric once more: float64 NumPy, plain loops over windows, as the papers say.

Nothing here is shared with the package, and nothing is fast.  Grey images are `(H, W)` float64
holding integers 0..255, sources a list of them; `scores` has the keys of the registry.
"""

import math

import numpy as np


def grey(rgb):
    """MATLAB's rgb2gray of uint8 `(H, W, 3)`."""
    weights = np.array([0.298936021293776, 0.587043074451121, 0.114020904255103])
    return np.floor(rgb.astype(np.float64) @ weights + 0.5)


def scores(fused, sources, names):
    """The named metrics of grey images."""
    with np.errstate(all="ignore"):
        return {name: float(METRICS[name](fused, sources)) for name in names}


# Windows


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


# Information


def bits(p):
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def histogram(image):
    return np.bincount(image.astype(int).ravel(), minlength=256) / image.size


def joint(a, b):
    pairs = a.astype(int) * 256 + b.astype(int)
    return (np.bincount(pairs.ravel(), minlength=65536) / a.size).reshape(256, 256)


def entropy(fused, sources=()):
    return bits(histogram(fused))


def shared_bits(a, b):
    return bits(histogram(a)) + bits(histogram(b)) - bits(joint(a, b))


def mutual_information(fused, sources):
    return sum(shared_bits(source, fused) for source in sources)


def normalised_mutual_information(fused, sources):
    return 2 * sum(
        np.float64(shared_bits(x, fused)) / (entropy(x) + entropy(fused)) for x in sources
    )


def cross_entropy(fused, sources):
    total = 0.0
    for source in sources:
        p, q = histogram(source), histogram(fused)
        both = (p > 0) & (q > 0)
        total += (p[both] * np.log2(p[both] / q[both])).sum()
    return total / len(sources)


def tsallis(a, b, q):
    p = joint(a, b)
    product = histogram(a)[:, None] * histogram(b)[None, :]
    there = p > 0
    return (1 - (p[there] ** q / product[there] ** (q - 1)).sum()) / (1 - q)


def tsallis_cvejic(fused, sources):
    return sum(tsallis(source, fused, 1.85) for source in sources)


def tsallis_nava(fused, sources):
    q, (a, b) = 0.43137, sources
    shared = tsallis(a, fused, q) + tsallis(b, fused, q)
    there = entropy(a) ** q + entropy(b) ** q + tsallis(a, b, q)
    return np.float64(round(shared, 12)) / round(there, 12)  # what is zero, exactly zero


def nonlinear_correlation(fused, sources):
    images = [*sources, fused]
    n = len(images)
    matrix = np.eye(n)
    for i in range(n):
        for j in range(n):
            if i != j:
                matrix[i, j] = shared_bits(images[i], images[j]) / 8
    shares = np.linalg.eigvalsh(matrix) / n
    return 1 - bits(shares) / 8


# Statistics


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return np.float64((a * b).mean()) / np.sqrt((a * a).mean() * (b * b).mean())


def difference_correlation(fused, sources):
    a, b = sources
    return correlation(fused - b, a) + correlation(fused - a, b)


def mean_squared_error(fused, sources):
    return np.mean([(fused - source) ** 2 for source in sources])


def psnr(fused, sources):
    return 10 * np.log10(255**2 / mean_squared_error(fused, sources))


# Gradients

SOBEL = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def spatial_frequency(fused, sources=()):
    across, down = np.diff(fused, axis=1), np.diff(fused, axis=0)
    return np.sqrt((across**2).mean() + (down**2).mean())


def average_gradient(fused, sources=()):
    down, across = np.gradient(fused)
    height, width = fused.shape
    return np.sqrt((across**2 + down**2) / 2).sum() / ((height - 1) * (width - 1))


def edge_intensity(fused, sources=()):
    return np.hypot(same(fused, SOBEL, "edge"), same(fused, SOBEL.T, "edge")).mean()


def extended_spatial_frequency(fused, sources):
    def differences(image):
        yield 1.0, image[:, 1:] - image[:, :-1]
        yield 1.0, image[1:] - image[:-1]
        yield math.sqrt(0.5), image[1:, 1:] - image[:-1, :-1]
        yield math.sqrt(0.5), image[1:, :-1] - image[:-1, 1:]

    own = sum(weight * (d**2).sum() for weight, d in differences(fused))
    of_sources = 0.0
    for parts in zip(*(differences(source) for source in sources), strict=True):
        steepest = np.max([np.abs(d) for _, d in parts], axis=0)
        of_sources += parts[0][0] * (steepest**2).sum()
    return (np.sqrt(own) - np.sqrt(of_sources)) / np.sqrt(np.float64(of_sources))


def edges(image, mode="constant"):
    """Strength and orientation of the Sobel response."""
    x, y = same(image, SOBEL, mode), same(image, -SOBEL.T, mode)
    return np.hypot(x, y), np.where(x == 0, math.pi / 2, np.arctan(y / np.where(x == 0, 1, x)))


def logistic(value, gain, slope, centre):
    return gain / (1 + np.exp(slope * (value - centre)))


def qabf(fused, sources):
    strength_f, angle_f = edges(fused)
    above = below = 0.0
    for source in sources:
        strength, angle = edges(source)
        low, high = np.minimum(strength, strength_f), np.maximum(strength, strength_f)
        ratio = np.where(low == high, low, low / np.where(high > 0, high, 1))
        alike = 1 - np.abs(angle - angle_f) / (math.pi / 2)
        kept = logistic(ratio, 0.9994, -15, 0.5) * logistic(alike, 0.9879, -22, 0.8)
        above, below = above + (kept * strength).sum(), below + strength.sum()
    return np.float64(above) / below


def kumar_parts(fused, sources):
    """Of each source: what is kept, the weight, and whether the fused edge is stronger."""

    def response(image):
        x, y = same(image, SOBEL, "reflect") / 8, same(image, SOBEL.T, "reflect") / 8
        angle = np.arctan(np.where(y == 0, np.where(x == 0, 0, np.inf * np.sign(x)), x / y))
        return np.hypot(x, y), angle

    strength_f, angle_f = response(fused)
    for source in sources:
        strength, angle = response(source)
        low, high = np.minimum(strength, strength_f), np.maximum(strength, strength_f)
        ratio = np.where(low == 0, 0, low / np.where(high > 0, high, 1))
        alike = np.abs(np.abs(angle - angle_f) - math.pi / 2) * 2 / math.pi
        kept = np.sqrt(logistic(ratio, 0.9999, -19, 0.5) * logistic(alike, 0.9995, -22, 0.5))
        yield kept, np.where(strength >= 2, strength**1.5, 0.001), strength_f > strength


def kumar(fused, sources, judge):
    """The mean of judge(kept, stronger than all) over the sources' weighted pixels."""
    parts = list(kumar_parts(fused, sources))
    stronger = np.all([part[2] for part in parts], axis=0)
    total = sum((judge(kept, stronger) * weight).sum() for kept, weight, _ in parts)
    return total / sum(weight.sum() for _, weight, _ in parts)


def qabf_kumar(fused, sources):
    return kumar(fused, sources, lambda kept, stronger: kept)


def loss(fused, sources):
    return kumar(fused, sources, lambda kept, stronger: (1 - kept) * ~stronger)


def artefacts(fused, sources):
    return kumar(fused, sources, lambda kept, stronger: (1 - kept) * stronger)


def artefacts_petrovic(fused, sources):
    parts = list(kumar_parts(fused, sources))
    stronger = np.all([part[2] for part in parts], axis=0)
    weights = sum(weight for _, weight, _ in parts)
    lost = sum(1 - kept for kept, _, _ in parts)
    return np.sum(stronger * lost * weights) / np.sum(weights)


def local_edge_ratio(fused, sources):
    """Q_G: the mean over the pixels of local ratios."""
    tiny = 1e-5

    def response(image):
        x, y = same(image, SOBEL), same(image, SOBEL.T)
        return np.hypot(x, y), np.arctan(y / np.where(x == 0, tiny, x))

    strength_f, angle_f = response(fused)
    above = below = 0.0
    for source in sources:
        strength, angle = response(source)
        steeper = strength > strength_f
        strength = np.where(strength == 0, tiny, strength)
        own = np.where(strength_f == 0, tiny, strength_f)
        ratio = np.where(steeper, strength_f / strength, strength / own)
        alike = np.abs(np.abs(angle - angle_f) - math.pi / 2) * 2 / math.pi
        kept = logistic(ratio, 1, -10, 0.5) * logistic(alike, 1, -20, 0.75)
        above, below = above + kept * strength, below + strength
    return np.mean(above / below)


def multiscale_edges(fused, sources):
    """Q_M: two levels of the Haar wavelet."""

    def haar(image):
        height, width = (side - side % 2 for side in image.shape)
        image = image[:height, :width]
        a, b, c, d = image[::2, ::2], image[::2, 1::2], image[1::2, ::2], image[1::2, 1::2]
        return (a + b + c + d) / 2, [(a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2]

    fused, value = np.asarray(fused), 1.0
    for exponent in (2 / 3, 1 / 3):
        fused, own = haar(fused)
        split = [haar(source) for source in sources]
        sources = [low for low, _ in split]
        above = below = 0.0
        for _, bands in split:
            kept = sum(np.exp(-np.abs(x - y)) for x, y in zip(bands, own, strict=True))
            weight = sum(band**2 for band in bands)
            above, below = above + np.sum(kept * weight), below + np.sum(weight)
        value *= (np.float64(above) / below) ** exponent
    return value


# Structure

WINDOW = gaussian(11, 1.5)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim_parts(x, y, window=WINDOW, c1=C1, c2=C2):
    mx, my, vx, vy, c = moments(x, y, window)
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1), (2 * c + c2) / (vx + vy + c2)


def ssim_map(x, y, window=WINDOW, c1=C1, c2=C2):
    luminance, structure = ssim_parts(x, y, window, c1, c2)
    return luminance * structure


def ssim(x, y):
    return ssim_map(x, y).mean()


def source_ssim(fused, sources):
    return np.mean([ssim(fused, source) for source in sources])


def multiscale_ssim(fused, sources):
    def one(x, y):
        value = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            luminance, structure = ssim_parts(x, y)
            mean = (luminance * structure if scale == 4 else structure).mean()
            value *= max(mean, 0) ** weight
            x, y = halved(x), halved(y)
        return value

    return np.mean([one(fused, source) for source in sources])


def mef_ssim(fused, sources):
    """Patch by patch."""
    n, c = 11, (0.03 * 255) ** 2
    height, width = (side - n + 1 for side in fused.shape)
    quality = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            f = fused[i : i + n, j : j + n]
            patches = [source[i : i + n, j : j + n] for source in sources]
            detail = [patch - patch.mean() for patch in patches]
            norms = [np.linalg.norm(d) for d in detail]
            contrast = [norm + 0.001 for norm in norms]
            eps = np.finfo(float).eps
            consistency = (np.linalg.norm(sum(detail)) + eps) / (sum(norms) + eps)
            power = min(math.tan(math.pi / 2 * min(consistency, 1 - eps)), 10)
            weights = [(e / n) ** power + eps for e in contrast]
            desired = sum(
                w / sum(weights) * d / e for w, d, e in zip(weights, detail, contrast, strict=True)
            )
            if np.linalg.norm(desired) > 0:
                desired = desired / np.linalg.norm(desired) * max(contrast)
            r, f = desired - (WINDOW * desired).sum(), f - (WINDOW * f).sum()
            vr, vf, cov = ((WINDOW * p).sum() for p in (r * r, f * f, r * f))
            quality[i, j] = (2 * cov + c) / (vr + vf + c)
    return quality.mean()


def multiscale_mef_ssim(fused, sources):
    weights, value = np.array([0.0448, 0.2856, 0.3001]), 1.0
    for weight in weights / weights.sum():
        value *= max(mef_ssim(fused, sources), 0) ** weight
        fused, sources = halved(fused), [halved(source) for source in sources]
    return value


def share(a, b):
    """a / (a + b), one half where both are zero."""
    return np.where(a + b == 0, 0.5, a / np.where(a + b == 0, 1, a + b))


def piella_parts(fused, sources):
    a, b = sources
    _, _, va, vb, _ = moments(a, b, WINDOW)
    part = share(va, vb)
    quality = part * ssim_map(fused, a) + (1 - part) * ssim_map(fused, b)
    return quality, np.maximum(va, vb)


def piella(fused, sources):
    return piella_parts(fused, sources)[0].mean()


def piella_weighted(fused, sources):
    quality, saliency = piella_parts(fused, sources)
    return (quality * saliency).sum() / saliency.sum()


def piella_edges(fused, sources):
    prewitt = np.array([[1.0, 0, -1]] * 3)

    def outline(image):
        return np.hypot(same(image, prewitt), same(image, prewitt.T))

    outlines = [outline(source) for source in sources]
    return piella_weighted(fused, sources) * piella_weighted(outline(fused), outlines)


SMALL = gaussian(7, 1.5)


def cvejic(fused, sources):
    a, b = sources
    with_a, with_b = moments(a, fused, SMALL)[4], moments(b, fused, SMALL)[4]
    part = np.clip(share(with_a, with_b), 0, 1)
    tiny = {"window": SMALL, "c1": 2e-16, "c2": 2e-16}
    return (part * ssim_map(a, fused, **tiny) + (1 - part) * ssim_map(b, fused, **tiny)).mean()


def yang(fused, sources):
    a, b = sources
    tiny = {"window": SMALL, "c1": 2e-16, "c2": 2e-16}
    _, _, va, vb, _ = moments(a, b, SMALL)
    part, with_a, with_b = share(va, vb), ssim_map(a, fused, **tiny), ssim_map(b, fused, **tiny)
    alike = ssim_map(a, b, **tiny) >= 0.75
    return np.where(alike, part * with_a + (1 - part) * with_b, np.maximum(with_a, with_b)).mean()


# Perception


def vif_scales(reference, image, noise):
    """Of four scales: information kept, information there, gain."""
    for scale in range(4):
        n = 2 ** (4 - scale) + 1
        window = gaussian(n, n / 5)
        if scale:
            reference, image = (filtered(x, window)[::2, ::2] for x in (reference, image))
        _, _, v1, v2, c = moments(reference, image, window)
        gain = c / (v1 + 1e-10)
        rest = v2 - gain * c
        for where, value in ((v1 < 1e-10, v2), (v2 < 1e-10, np.zeros_like(v2))):
            gain, rest = np.where(where, 0, gain), np.where(where, value, rest)
        v1 = np.where(v1 < 1e-10, 0, v1)
        rest = np.maximum(np.where(gain < 0, v2, rest), 1e-10)
        gain = np.maximum(gain, 0)
        yield np.log10(1 + gain**2 * v1 / (rest + noise)), np.log10(1 + v1 / noise), gain


def vif(reference, image):
    kept, there, _ = zip(*vif_scales(reference, image, 2.0), strict=True)
    return np.float64(sum(x.sum() for x in kept)) / sum(x.sum() for x in there)


def source_vif(fused, sources):
    return sum(vif(source, fused) for source in sources)


def vif_for_fusion(fused, sources):
    a, b = (list(vif_scales(source, fused, 0.005 * 255**2)) for source in sources)
    value = 0.0
    for weight, of_a, of_b in zip((1, 0, 0.15, 1), a, b, strict=True):
        first = of_a[2] < of_b[2]
        kept, there = (np.where(first, of_a[i], of_b[i]) + 1e-7 for i in (0, 1))
        value += weight / 2.15 * kept.sum() / there.sum()
    return value


def frequencies(shape):
    rows, columns = (np.fft.fftfreq(side) * side for side in shape)
    return np.hypot(rows[:, None], columns[None, :])


def through(image, response):
    return np.fft.ifft2(np.fft.fft2(image) * response).real


def chen_blum(fused, sources):
    r = frequencies(fused.shape) / 15
    response = np.exp(-((r / 15.387) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))

    def contrast(image):
        image = through(stretched(image), response)
        fine, coarse = (same(image, gaussian(31, s) * gaussian_mass(31, s)) for s in (2.0, 4.0))
        local = np.abs(fine / coarse - 1)
        return local**3 / (local**2 + 1e-4)

    own = contrast(fused)
    above = below = 0.0
    for source in sources:
        c = contrast(source)
        above = above + c**2 * np.minimum(c, own) / np.maximum(c, own)
        below = below + c**2
    return np.mean(above / below)


def gaussian_mass(n, sigma):
    """What a sampled Gaussian of integral one sums to within its n x n window."""
    offsets = np.arange(n) - (n - 1) / 2
    return (np.exp(-(offsets**2) / (2 * sigma**2)).sum()) ** 2 / (2 * math.pi * sigma**2)


def chen_varshney(fused, sources):
    r = frequencies(fused.shape) / 4
    response = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))

    def blocks(image):
        image = np.pad(image, [(0, -side % 16) for side in image.shape])
        height, width = image.shape
        return image.reshape(height // 16, 16, width // 16, 16).sum(axis=(1, 3))

    fused, above, below = stretched(fused), 0.0, 0.0
    for source in map(stretched, sources):
        saliency = blocks(np.hypot(same(source, SOBEL), same(source, SOBEL.T)) ** 5)
        error = blocks(through(source - fused, response) ** 2) / 256
        above, below = above + (saliency * error).sum(), below + saliency.sum()
    return np.float64(above) / below


# Feature mutual information


def bits_of(p):
    """Zero and negative parts as that code counts them."""
    return sum(-v * math.log2(abs(v)) for v in np.ravel(p) if v != 0)


def window_information(x, f):
    """2 MI / (H + H) of two 3 x 3 windows."""
    if (x == f).all():
        return 1.0

    def distribution(window):
        cells = window.T.ravel()  # column by column
        low, high = cells.min(), cells.max()
        cells = np.ones(9) if low == high else (cells - low) / (high - low)
        return cells / cells.sum()

    def spread(p):
        place = np.arange(9)
        return math.sqrt((p * (place - (p * place).sum()) ** 2).sum())

    p, q = distribution(x), distribution(f)
    a, b = p - 1 / 9, q - 1 / 9
    flat = np.ptp(x) == 0 or np.ptp(f) == 0
    c = 0.0 if flat else (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())
    above, below = np.cumsum(p), np.cumsum(q)
    bound = np.minimum.outer(below, above) if c >= 0 else np.add.outer(below, above) - 1
    bound = np.maximum(bound, 0)
    covariance = (bound - np.outer(below, above)).sum()
    spreads = spread(p) * spread(q)
    weight = c * spreads / covariance if c and spreads else 0.0
    corner = np.pad(bound, ((1, 0), (1, 0)))
    extreme = corner[1:, 1:] - corner[:-1, 1:] - corner[1:, :-1] + corner[:-1, :-1]
    extreme = np.where(np.abs(extreme) < 1e-14, 0, extreme)
    both = weight * extreme + (1 - weight) * np.outer(q, p)
    apart = bits_of(p) + bits_of(q)
    shared = apart - bits_of(both)
    return 2 * shared / apart if abs(shared) > 1e-12 else 0.0


def feature_information(feature):
    def information(fused, sources):
        f, total = feature(fused), []
        for x in map(feature, sources):
            for i in range(f.shape[0] - 2):
                for j in range(f.shape[1] - 2):
                    where = slice(i, i + 3), slice(j, j + 3)
                    total.append(window_information(x[where], f[where]))
        return np.mean(total)

    return information


def sobel_edges(image):
    """MATLAB's edge(image), pixel by pixel."""
    x, y = same(image, SOBEL, "edge"), same(image, SOBEL.T, "edge")
    strength, edges = x**2 + y**2, np.zeros(image.shape)
    for (i, j), s in np.ndenumerate(strength):

        def at(row, column):
            inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
            return strength[row, column] if inside else -1

        along_x = abs(x[i, j]) >= abs(y[i, j]) and at(i, j - 1) <= s > at(i, j + 1)
        along_y = abs(y[i, j]) >= abs(x[i, j]) and at(i - 1, j) <= s > at(i + 1, j)
        edges[i, j] = s > 4 * np.mean(strength) and (along_x or along_y)
    return edges


def cosine_transform(image):
    def matrix(n):
        k, x = np.arange(n)[:, None], np.arange(n)[None, :]
        rows = np.cos(math.pi * k * (2 * x + 1) / (2 * n)) * math.sqrt(2 / n)
        rows[0] /= math.sqrt(2)
        return rows

    return matrix(image.shape[0]) @ image @ matrix(image.shape[1]).T


# Phase congruency


def phase_congruency(image):
    """Kovesi's, as Liu's toolbox calls it: congruency, largest and smallest moment."""
    height, width = image.shape
    rows, columns = np.fft.fftfreq(height) * height, np.fft.fftfreq(width) * width
    low_pass = np.hypot(rows[:, None] / height, columns[None] / width)
    low_pass = 1 / (1 + (low_pass / 0.45) ** 30)
    y, x = rows[:, None] / (height - height % 2), columns[None] / (width - width % 2)
    radius, theta = np.hypot(y, x), np.arctan2(-y, x + 0 * y)
    radius[0, 0] = 1
    radial = []
    for scale in range(4):
        band = np.exp(-(np.log(radius * 3 * 2.1**scale) ** 2) / (2 * math.log(0.55) ** 2))
        band *= low_pass
        band[0, 0] = 0
        radial.append(band)
    spectrum, eps = np.fft.fft2(image), 1e-4
    energies = amplitudes = xx = yy = xy = 0.0
    for orientation in np.arange(6) * math.pi / 6:
        off = theta - orientation
        off = np.abs(np.arctan2(np.sin(off), np.cos(off)))
        spread = np.exp(-(off**2) / (2 * (math.pi / 6 / 1.2) ** 2))
        responses = [np.fft.ifft2(spectrum * band * spread) for band in radial]
        kernels = [np.fft.ifft2(band * spread).real * math.sqrt(height * width) for band in radial]
        amplitude = np.sum([np.abs(r) for r in responses], axis=0)
        even, odd = sum(r.real for r in responses), sum(r.imag for r in responses)
        length = np.hypot(even, odd) + eps
        even, odd = even / length, odd / length
        energy = sum(
            r.real * even + r.imag * odd - np.abs(r.real * odd - r.imag * even) for r in responses
        )
        power = np.median(np.abs(responses[0]) ** 2) / math.log(2)
        power /= ((radial[0] * spread) ** 2).sum()
        squares = sum((k**2).sum() for k in kernels)
        products = sum((kernels[i] * kernels[j]).sum() for i in range(4) for j in range(i + 1, 4))
        tau = math.sqrt((2 * power * squares + 4 * power * products) / 2)
        noise = tau * math.sqrt(math.pi / 2) + 2 * math.sqrt((2 - math.pi / 2) * tau**2)
        energy = np.maximum(energy - noise / 1.7, 0)
        largest = np.max([np.abs(r) for r in responses], axis=0)
        weight = 1 / (1 + np.exp(10 * (0.5 - amplitude / (largest + eps) / 4)))
        energies, amplitudes = energies + weight * energy, amplitudes + amplitude
        here = weight * energy / np.where(amplitude == 0, 1, amplitude)
        cos, sin = here * math.cos(orientation), here * math.sin(orientation)
        xx, yy, xy = xx + cos**2 / 3, yy + sin**2 / 3, xy + cos * sin / 6
    root = np.hypot(xy, xx - yy) + eps
    return energies / (amplitudes + eps), (xx + yy + root) / 2, (xx + yy - root) / 2


def phase_quality(fused, sources):
    own = phase_congruency(fused)
    a, b = (phase_congruency(source) for source in sources)
    first = a[0] > b[0]
    strongest = [np.where(first, x, y) for x, y in zip(a, b, strict=True)]
    masks = [features[0] > 0.1 for features in (a, b, strongest)]

    def mean(image):
        return same(image, WINDOW)

    value = 1.0
    for k in range(3):
        maps = []
        for features, mask in zip((a, b, strongest), masks, strict=True):
            x, y = features[k] * mask, own[k]
            covariance = mean(x * y) - mean(x) * mean(y)
            vx, vy = mean(x * x) - mean(x) ** 2, mean(y * y) - mean(y) ** 2
            local = (covariance + 1e-4) / (np.sqrt(np.abs(vx * vy)) + 1e-4)
            maps.append(np.where(mask, local, 0))
        value *= np.float64(np.max(maps, axis=0).sum()) / np.sum(masks[2])
    return value


METRICS = {
    "EN": entropy,
    "MI": mutual_information,
    "NMI": normalised_mutual_information,
    "CE": cross_entropy,
    "Qte": tsallis_cvejic,
    "Qte_nava": tsallis_nava,
    "Qncie": nonlinear_correlation,
    "SD": lambda fused, sources: fused.std(),
    "CC": lambda fused, sources: np.mean([correlation(source, fused) for source in sources]),
    "SCD": difference_correlation,
    "MSE": mean_squared_error,
    "RMSE": lambda fused, sources: math.sqrt(mean_squared_error(fused, sources)),
    "PSNR": psnr,
    "SF": spatial_frequency,
    "AG": average_gradient,
    "EI": edge_intensity,
    "Qsf": extended_spatial_frequency,
    "Qabf": qabf,
    "Qabf_kumar": qabf_kumar,
    "Qg": local_edge_ratio,
    "Labf": loss,
    "Nabf": artefacts,
    "Nabf_petrovic": artefacts_petrovic,
    "Qm": multiscale_edges,
    "SSIM": source_ssim,
    "MSSSIM": multiscale_ssim,
    "MEFSSIM": mef_ssim,
    "MEFSSIM_multi": multiscale_mef_ssim,
    "Qs": piella,
    "Qw": piella_weighted,
    "Qe": piella_edges,
    "Qc": cvejic,
    "Qy": yang,
    "VIF": source_vif,
    "VIFF": vif_for_fusion,
    "Qcb": chen_blum,
    "Qcv": chen_varshney,
    "Qp": phase_quality,
    "FMI_pixel": feature_information(lambda image: image),
    "FMI_gradient": feature_information(lambda image: np.gradient(image, axis=1)),
    "FMI_edge": feature_information(sobel_edges),
    "FMI_dct": feature_information(cosine_transform),
}
