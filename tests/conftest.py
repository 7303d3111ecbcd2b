"""What the tests share: the sample photos, and one cache folder so that networks are exported once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facecli.calibration.fit import calibrate, describe
from facecli.faces.mtcnn import Mtcnn
from facecli.models import mtcnn_networks, runtime
from facecli.photos.decode import decode
from facecli.photos.find import read
from facecli.stats.comparisons import Comparisons
from facecli.templates.embedder import Embedder

SAMPLES = Path(__file__).parents[1] / "sample_db"
WILD = Path(__file__).parents[2] / "shared" / "data" / "wild"


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def people():
    """The sample database, to be read only: copy it before enrolling."""
    return SAMPLES / "people"


@pytest.fixture(scope="session")
def probes():
    return SAMPLES / "probes"


@pytest.fixture(scope="session")
def embedder(cache_dir):
    return Embedder(cache_dir=cache_dir, workers=1)


@pytest.fixture(scope="session")
def stages(cache_dir):
    """The runners of the detector's three networks."""
    return [
        runtime.load(mtcnn_networks.network(stage), cache_dir=cache_dir) for stage in mtcnn_networks.STAGES
    ]


@pytest.fixture(scope="session")
def detector(stages):
    return Mtcnn(stages)


@pytest.fixture(scope="session")
def wild():
    """Some development photographs, where this machine has them."""
    photos = sorted(WILD.glob("*/*.jpg"))
    if not photos:
        pytest.skip("the development photographs (../shared/data/wild) are not here")
    return photos


# Shown sizes in px of the whole 224 px sample image; the face's box is about 150/224 as wide.
GROUP = (("Arthur", 260), ("Clara", 180), ("Felix", 130), ("Hugo", 100), ("Imani", 80), ("Basil", 66))


@pytest.fixture(scope="session")
def group(people, tmp_path_factory):
    """A photo of six people on grey, from a face of about 180 px down to one of about 45."""
    canvas = Image.new("RGB", (700, 420), (120, 125, 130))
    left, top = 20, 20
    for name, side in GROUP:
        if left + side > canvas.width:
            left, top = 20, 290
        face = Image.open(people / name / "1.jpg").resize((side, side), Image.Resampling.LANCZOS)
        canvas.paste(face, (left, top))
        left += side + 25
    path = tmp_path_factory.mktemp("group") / "group.png"
    canvas.save(path)
    return path


@pytest.fixture(scope="session")
def opened():
    """Return a function that decodes a photo at full scale."""
    return lambda path: decode(read(path), path=path)


def made_up_calibration(embedder_id, n_mated=300, n_nonmated=6000):
    """Return a calibration of scores drawn where the generated faces have theirs; nobody knows who is who."""
    rng = np.random.default_rng(5)
    scores = np.concatenate([rng.normal(0.75, 0.07, n_mated), rng.normal(0.12, 0.09, n_nonmated)])
    mated = np.arange(scores.size) < n_mated
    comparisons = Comparisons(np.clip(scores, -1, 1).astype(np.float32), mated)
    return calibrate(comparisons, describe(comparisons, "made up"), embedder_id=embedder_id)


@pytest.fixture(scope="session")
def calibration(embedder):
    return made_up_calibration(embedder.id)


def iou(a, b):
    """Return the intersection over union of two boxes (left, top, right, bottom)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / whole


def landmarks_apart(a, b):
    """Return the mean distance between landmarks as a share of the distance between the eyes of `a`."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float(np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(a[0] - a[1]))
