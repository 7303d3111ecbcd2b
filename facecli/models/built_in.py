"""The models known by name. A model more of a family that is there is one entry of this table."""

from __future__ import annotations

from facecli.files.mirrors import Place
from facecli.models.spec import DetectorFile, ModelSpec, Points

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


def _facenet(
    name: str, weights: str, sha256: str | None, size: int | None, data: str, accuracy: str
) -> ModelSpec:
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
        size=size,
        accuracy=accuracy,
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
SFACE_TERMS = "Apache-2.0 (code and weights); what it was trained on is not documented"

INSIGHTFACE = "https://github.com/deepinsight/insightface/releases/download/v0.7/"
BUFFALO_L = "80ffe37d8a5940d59a7384c201a2a38d4741f2f3c51eef46ebb28218a7b0ca2f"
BUFFALO_SC = "57d31b56b6ffa911c8a73cfc1707c73cab76efe7f13b675a05223bf42de47c72"
"""Digests of InsightFace's archives."""
UNIFACE = "https://github.com/yakhyo/uniface/releases/download/weights/"
UNIFACE_MIRROR = (
    "https://huggingface.co/yakhyo/uniface-weights/resolve/4c7ed723a20deb7ff154b1ba7d6e73747d954016/"
)
EDGEFACE = "https://github.com/yakhyo/edgeface-onnx/releases/download/weights/"
ADAFACE = "https://github.com/yakhyo/adaface-onnx/releases/download/weights/"

# What a mirror says of its copies is not the weights' licence: these are their makers' terms.
INSIGHTFACE_TERMS = "MIT (code); InsightFace's weights are for non-commercial research only"
EDGEFACE_TERMS = "BSD-3-Clause (code's repository), CC-BY-NC-SA-4.0, non-commercial (Idiap's model cards)"


def _arcface(
    name: str,
    weights: str,
    sha256: str,
    size: int | None,
    licence: str,
    accuracy: str,
    *,
    mirrors: tuple[Place, ...] = (),
    channel_order: str = "RGB",
    non_commercial: bool = True,
) -> ModelSpec:
    return ModelSpec(
        name=name,
        family="published",
        dim=512,
        input_size=112,
        template=ARCFACE_TEMPLATE,
        channel_order=channel_order,
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        mirror=False,
        weights=weights,
        sha256=sha256,
        size=size,
        mirrors=mirrors,
        licence=licence,
        non_commercial=non_commercial,
        accuracy=accuracy,
    )


def _opencv(name: str, weights: str, sha256: str, size: int, accuracy: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        family="published",
        dim=128,
        input_size=112,
        template=ARCFACE_TEMPLATE,
        channel_order="RGB",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        mirror=False,
        weights=f"{OPENCV_ZOO}face_recognition_sface/{weights}",
        sha256=sha256,
        size=size,
        licence=SFACE_TERMS,
        accuracy=accuracy,
    )


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
            size=10_667_852,
            accuracy="LFW 99.42 % (OpenCV zoo)",
            upright_length=10.0,
            licence=SFACE_TERMS,
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
            accuracy="LFW 99.38 % (dlib)",
            licence=(
                "CC0-1.0 (weights); the same package also installs a 68-point landmark file with"
                " non-commercial terms, which facecli never uses"
            ),
        ),
        _facenet(
            "vggface2",
            "20180402-114759-vggface2.pt",
            "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
            111_898_327,
            "VGGFace2",
            "LFW 99.65 % (facenet-pytorch)",
        ),
        # No digest of this file is published: the first download's is kept beside it and holds from then on.
        _facenet(
            "casia-webface",
            "20180408-102900-casia-webface.pt",
            None,
            None,
            "CASIA-WebFace",
            "LFW 99.05 % (facenet-pytorch)",
        ),
        _opencv(
            "sface-float",
            "face_recognition_sface_2021dec.onnx",
            "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
            38_696_353,
            "LFW 99.40 % (OpenCV zoo)",
        ),
        _opencv(
            "sface-int8",
            "face_recognition_sface_2021dec_int8.onnx",
            "2b0e941e6f16cc048c20aee0c8e31f569118f65d702914540f7bfdc14048d78a",
            9_896_933,
            "LFW 99.32 % (OpenCV zoo)",
        ),
        _arcface(
            "auraface",
            "https://huggingface.co/fal/AuraFace-v1/resolve/af6d057c9b0ec4071d4c49c80e3539258798b609/glintr100.onnx",
            "a7933ea5330113b01c9b60351d8f4c33003f145d8470ac5f0e52ee2effe25c60",
            260_694_151,
            "Apache-2.0 (weights); trained on data that its publisher calls commercial and does not name",
            "LFW 99.65 % (fal)",
            non_commercial=False,
        ),
        _arcface(
            "buffalo_l",
            UNIFACE + "w600k_r50.onnx",
            "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
            174_383_860,
            INSIGHTFACE_TERMS,
            "LFW 99.83 % (InsightFace)",
            mirrors=(
                Place(UNIFACE_MIRROR + "arcface_resnet.onnx"),
                Place(INSIGHTFACE + "buffalo_l.zip", "w600k_r50.onnx", BUFFALO_L),
            ),
        ),
        _arcface(
            "buffalo_sc",
            UNIFACE + "w600k_mbf.onnx",
            "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f",
            13_616_099,
            INSIGHTFACE_TERMS,
            "LFW 99.70 % (InsightFace)",
            mirrors=(
                Place(UNIFACE_MIRROR + "arcface_mnet.onnx"),
                Place(INSIGHTFACE + "buffalo_sc.zip", "w600k_mbf.onnx", BUFFALO_SC),
            ),
        ),
        # Nobody has this file by itself.
        _arcface(
            "antelopev2",
            "",
            "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf",
            260_665_334,
            INSIGHTFACE_TERMS,
            "MR-ALL 90.66 % (InsightFace)",
            mirrors=(
                Place(
                    INSIGHTFACE + "antelopev2.zip",
                    "glintr100.onnx",
                    "8e182f14fc6e80b3bfa375b33eb6cff7ee05d8ef7633e738d1c89021dcf0c5c5",
                ),
            ),
        ),
        _arcface(
            "edgeface-s",
            EDGEFACE + "edgeface_s_gamma_05.onnx",
            "b850767cf791bda585600b5c4c7d7432b2f998ccd862caae34ef1afa967d2e54",
            14_805_514,
            EDGEFACE_TERMS,
            "LFW 99.78 % (Idiap)",
        ),
        _arcface(
            "edgeface-xxs",
            EDGEFACE + "edgeface_xxs.onnx",
            "dc674de4cbc77fa0bf9a82d5149558ab8581d82a2cd3bb60f28fd1a5d3ff8a2f",
            5_133_128,
            EDGEFACE_TERMS,
            "LFW 99.57 % (Idiap)",
        ),
        _arcface(
            "adaface-ir18",
            ADAFACE + "adaface_ir_18.onnx",
            "6b6a35772fb636cdd4fa86520c1a259d0c41472a76f70f802b351837a00d9870",
            None,
            "MIT (code); the weights follow the terms of their data, WebFace4M: no commercial use",
            "IJB-C 94.99 % (uniface)",
            mirrors=(Place(UNIFACE_MIRROR + "adaface_ir_18.onnx"),),
            channel_order="BGR",
        ),
        _arcface(
            "adaface-ir101",
            ADAFACE + "adaface_ir_101.onnx",
            "f2eb07d03de0af560a82e1214df799fec5e09375d43521e2868f9dc387e5a43e",
            260_704_652,
            "MIT (code); the weights follow the terms of their data, WebFace12M: no commercial use",
            "IJB-C 97.66 % (uniface)",
            mirrors=(Place(UNIFACE_MIRROR + "adaface_ir_101.onnx"),),
            channel_order="BGR",
        ),
    )
}
"""The models known by name. Landmarks: viewer's left eye, right eye, nose, left and right mouth corner."""

DETECTOR_FILES: dict[str, DetectorFile] = {
    file.name: file
    for file in (
        DetectorFile(
            "scrfd-10g",
            (
                Place(UNIFACE + "scrfd_10g_kps.onnx"),
                Place(UNIFACE_MIRROR + "scrfd_10g.onnx"),
                Place(INSIGHTFACE + "buffalo_l.zip", "det_10g.onnx", BUFFALO_L),
            ),
            "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
            16_923_827,
            INSIGHTFACE_TERMS,
            True,
            "WIDER hard 82.8 % (InsightFace)",
        ),
        DetectorFile(
            "scrfd-500m",
            (
                Place(UNIFACE + "scrfd_500m_kps.onnx"),
                Place(UNIFACE_MIRROR + "scrfd_500m.onnx"),
                Place(INSIGHTFACE + "buffalo_sc.zip", "det_500m.onnx", BUFFALO_SC),
            ),
            "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a",
            2_524_817,
            INSIGHTFACE_TERMS,
            True,
            "WIDER hard 69.5 % (InsightFace)",
        ),
        DetectorFile(
            "yunet-n",
            (
                Place(
                    "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/"
                    "0047ac24afb1a50a0c6105001c89d1b5b805dbf1/onnx/yunet_n_dynamic.onnx"
                ),
            ),
            "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
            322_906,
            "Apache-2.0; trained on WIDER FACE",
            False,
            "WIDER hard 81.1 % (its authors)",
        ),
    )
}
"""Weights of detectors that can be fetched by name."""

EVERYDAY: dict[str, tuple[str, ...]] = {
    "adaface": ("adaface-ir101", "adaface-ir18"),
    "antelope": ("antelopev2",),
    "arcface": ("buffalo_l", "auraface"),
    "buffalo": ("buffalo_l",),
    "buffalo_m": ("buffalo_l",),
    "buffalo_s": ("buffalo_sc",),
    "deepface": ("vggface2",),
    "edgeface": ("edgeface-s",),
    "face_recognition": ("dlib",),
    "facenet": ("vggface2",),
    "facenet512": ("vggface2",),
    "glint360k": ("antelopev2", "auraface"),
    "glintr100": ("antelopev2", "auraface"),
    "inceptionresnetv1": ("vggface2",),
    "insightface": ("buffalo_l",),
    "mobilefacenet": ("buffalo_sc", "sface"),
    "opencv": ("sface",),
    "w600k_mbf": ("buffalo_sc",),
    "w600k_r50": ("buffalo_l",),
}
"""What people call networks elsewhere, and the ones here that are theirs or nearest, the likeliest first."""

SMALL_CNN = "small-cnn"
"""A base for training that has no weights."""
TORCHVISION = "torchvision:"
