"""Where images come from: the embedded digits, or arrays on disk."""

from dataclasses import dataclass, field

from evoprune.config.shipped import find
from evoprune.core.errors import DataError
from evoprune.core.splits import SPLITS
from evoprune.data.images import FRACTIONS, ImageSplits, digits, npz, split


@dataclass(frozen=True)
class DigitsSource:
    """``digits``: scikit-learn's handwritten digits, and photographs as what is far outside.

    Attributes:
        near: two digits held out of all classes: near outside for search, and for report.
        noise: standard deviation of the noise on every value of the images, which lie in [0, 1].
    """

    near: tuple[int, int] = (8, 9)
    noise: float = 0.0

    def images(self) -> ImageSplits:
        """Returns the images of every split, with what lies outside."""
        return digits(self.near, self.noise)


@dataclass(frozen=True)
class NpzSource:
    """``npz``: archives with ``images`` and ``labels``, split by the source or by share.

    Attributes:
        file: the archive that is split into all four splits, if ``report`` is not given.
        report: an archive of its own for the report split.
        size: height and width that images of bytes are resized to.
        near, far: archives of what is out of distribution, each shared out over the splits.
        outside: how many images of each of these are read, the first; all by default.
        classes: names of the classes.
    """

    file: str
    report: str | None = None
    size: int | None = None
    near: str | None = None
    far: str | None = None
    outside: int | None = None
    classes: tuple[str, ...] = field(default=())

    def images(self) -> ImageSplits:
        """Returns the images of every split, with what lies outside.

        Raises:
            DataError: an archive cannot be read.
        """
        whole = npz(find(self.file), self.size)
        names = self.classes or tuple(str(i) for i in range(int(whole.labels.max()) + 1))
        if len(names) <= int(whole.labels.max()):
            raise DataError(
                f"There are labels up to {int(whole.labels.max())}, but {len(names)} class names.",
                "Name every class in `classes`.",
            )
        if self.report is None:
            inside = split(whole, FRACTIONS)
        else:
            rest = {name: share for name, share in FRACTIONS.items() if name != "report"}
            total = sum(rest.values())
            inside = split(whole, {name: share / total for name, share in rest.items()})
            inside["report"] = npz(find(self.report), self.size)
        outside: dict[str, dict[str, object]] = {}
        for kind, file in (("near", self.near), ("far", self.far)):
            if file is not None:
                images = npz(find(file), self.size, self.outside).images
                thirds = {name: images[i::3] for i, name in enumerate(SPLITS)}
                for name, part in thirds.items():
                    outside.setdefault(name, {})[kind] = part
        return ImageSplits(inside, outside, names)  # type: ignore[arg-type]
