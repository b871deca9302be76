"""Which member stands for each family: the smallest, on small images. A family is a module of timm.models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Member:
    """A model, by the name that ``seenn --model`` takes, and how it is built small."""

    family: str
    name: str
    size: int = 64
    kwargs: dict[str, Any] = field(default_factory=dict)


def _timm(family: str, name: str, size: int = 64, **kwargs: Any) -> Member:
    return Member(f"timm {family}", name, size, kwargs)


def _fixed(family: str, name: str, size: int, **kwargs: Any) -> Member:
    """Its image size is an argument."""
    return Member(f"timm {family}", name, size, {"img_size": size, **kwargs})


#: Only ReLU, ReLU6, LeakyReLU or PReLU, and no gates: these must convert without smooth functions.
SPIKING = (
    _timm("resnet", "resnet10t", 32),
    _timm("resnet (blur pool)", "resnetblur18", 32),
    _timm("resnet (grouped)", "resnext50_32x4d", 32),
    _timm("byobnet", "repvgg_a0", 32),
    _timm("vgg", "vgg11_bn", 32),
    _timm("vgg (no norm)", "vgg11", 32),
    _timm("regnet", "regnetx_002", 32),
    _timm("efficientnet", "mobilenetv2_035", 32),
    _timm("efficientnet (mnasnet)", "mnasnet_050", 32),
    _timm("efficientnet (same padding)", "tf_efficientnet_lite0", 32),
    _timm("mobilenetv3 (ReLU6)", "mobilenetv4_conv_small_035", 32),
    _timm("hrnet", "hrnet_w18_small", 64),
    _timm("dla", "dla46_c", 32),
    _timm("densenet", "densenet121", 32),
    _timm("res2net", "res2net50_14w_8s", 32),
    _timm("selecsls", "selecsls42b", 64),
    _timm("cspnet", "darknet17", 32),
    _timm("cspnet (cross stage)", "cspresnet50", 32),
    _timm("vovnet", "vovnet39a", 32),
    _timm("nfnet", "nf_resnet26", 32),
    _timm("resnetv2", "resnetv2_18", 32),
    _timm("dpn", "dpn68", 32),
    _timm("inception_v3", "inception_v3", 107),
    _timm("inception_v4", "inception_v4", 107),
    _timm("inception_resnet_v2", "inception_resnet_v2", 107),
    _timm("xception", "legacy_xception", 64),
    _timm("xception_aligned", "xception41", 64),
    _timm("pnasnet", "pnasnet5large", 96),
    _timm("nasnet", "nasnetalarge", 96),
    _timm("fasternet", "fasternet_t2", 32),
)
#: The smallest member of every other family, and of some of the above with gates.
OTHERS = (
    _timm("hgnet", "hgnet_tiny", 32),
    _timm("senet", "legacy_seresnet18", 32),
    _timm("sknet", "skresnet18", 32),
    _timm("resnest", "resnest14d", 32),
    _timm("byoanet", "lambda_resnet26rpt_256", 256),
    _timm("ghostnet", "ghostnet_050", 32),
    _timm("repghost", "repghostnet_050", 32),
    _timm("hardcorenas", "hardcorenas_a", 32),
    _timm("mobilenetv3", "lcnet_035", 32),
    _timm("lcnetv2", "lcnetv2_small", 32),
    _timm("rexnet", "rexnet_100", 32),
    _timm("tresnet", "tresnet_m", 64),
    _timm("starnet", "starnet_s050", 32),
    _timm("cspnext", "cspnext_s", 32),
    _timm("convmixer", "convmixer_768_32", 32),
    _timm("convnext", "convnext_zepto_rms", 32),
    _timm("inception_next", "inception_next_atto", 64),
    _timm("rdnet", "rdnet_tiny", 32),
    _timm("mambaout", "mambaout_femto", 64),
    _timm("edgenext", "edgenext_xx_small", 64),
    _timm("mobilevit", "mobilevit_xxs", 64),
    _timm("repvit", "repvit_m0_9", 32),
    _timm("fastvit", "fastvit_t8", 64),
    _timm("efficientformer", "efficientformer_l1", 224),
    _timm("efficientformer_v2", "efficientformerv2_s0", 224),
    _timm("efficientvit_mit", "efficientvit_b0", 64),
    _timm("efficientvit_msra", "efficientvit_m0", 224),
    _timm("shvit", "shvit_s1", 64),
    _timm("swiftformer", "swiftformer_xs", 64),
    _timm("metaformer", "poolformerv2_s12", 64),
    _timm("visformer", "visformer_tiny", 224),
    _timm("levit", "levit_128s", 224),
    _timm("pvt_v2", "pvt_v2_b0", 64),
    _timm("davit", "davit_tiny", 64),
    _timm("focalnet", "focalnet_tiny_srf", 64),
    _timm("nextvit", "nextvit_small", 64),
    _timm("iformer", "iformer_t", 64),
    _timm("lowformer", "lowformer_b0", 64),
    _timm("cpubone", "cpubone_b0_bfrobust", 64),
    _timm("efficientvim", "efficientvim_m1", 64),
    _timm("csatv2", "csatv2", 64),
    _timm("mobilenetv5", "mobilenetv5_base", 64),
    _fixed("vision_transformer", "vit_tiny_patch16_224", 32),
    _fixed("deit", "deit_tiny_distilled_patch16_224", 32),
    _fixed("beit", "beit_base_patch16_224", 32),
    _fixed("eva", "eva02_tiny_patch14_224", 28),
    _fixed("cait", "cait_xxs24_224", 32),
    _fixed("convit", "convit_tiny", 32),
    _fixed("crossvit", "crossvit_tiny_240", 240),
    _fixed("coat", "coat_tiny", 64),
    _fixed("mlp_mixer", "resmlp_12_224", 32),
    _fixed("mvitv2", "mvitv2_tiny", 64),
    _fixed("pit", "pit_ti_224", 64),
    _fixed("sequencer", "sequencer2d_s", 64),
    _fixed("tnt", "tnt_s_patch16_224", 32),
    _fixed("xcit", "xcit_nano_12_p16_224", 32),
    _fixed("volo", "volo_d1_224", 64),
    _fixed("vision_transformer_relpos", "vit_relpos_small_patch16_224", 32),
    _fixed("vision_transformer_hybrid", "vit_tiny_r_s16_p8_224", 32),
    _fixed("vision_transformer_sam", "samvit_base_patch16_224", 64),
    _fixed("vitamin", "vitamin_small_224", 64),
    _fixed("swin_transformer", "swin_tiny_patch4_window7_224", 224),
    _fixed("swin_transformer_v2", "swinv2_tiny_window8_256", 64),
    _fixed("swin_transformer_v2_cr", "swinv2_cr_tiny_224", 224),
    _fixed("maxxvit", "coatnet_nano_rw_224", 224),
    _timm("tiny_vit", "tiny_vit_5m_224", 224),
    _fixed("gcvit", "gcvit_xxtiny", 224),
    _fixed("nest", "nest_tiny", 224),
    _fixed("hiera", "hiera_tiny_224", 224),
    _fixed("twins", "twins_pcpvt_small", 64),
    _timm("naflexvit", "naflexvit_base_patch16_gap", 224),
    _timm("hieradet_sam2", "sam2_hiera_tiny", 224),
    _timm("deepseek_vit", "deepseek_vit_412m", 28),
    _timm("gemma4_vit", "gemma4_vit_167m", 96),
    _timm("qwen3_vit", "qwen3_vit_88m", 224),
)
_TORCHVISION = {
    "alexnet": 64, "convnext_tiny": 32, "densenet121": 32, "efficientnet_b0": 32, "efficientnet_v2_s": 32,
    "googlenet": 64, "inception_v3": 107, "maxvit_t": 224, "mnasnet0_5": 32, "mobilenet_v2": 32,
    "mobilenet_v3_small": 32, "regnet_x_400mf": 32, "regnet_y_400mf": 32, "resnet18": 32, "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32, "squeezenet1_1": 64, "swin_t": 64, "swin_v2_t": 64, "vgg11": 32, "vit_b_16": 224,
    "wide_resnet50_2": 32,
}  # fmt: skip
TORCHVISION = tuple(Member(f"torchvision {name}", f"torchvision:{name}", size) for name, size in _TORCHVISION.items())
#: torchvision's models that hold nothing but ReLU, ReLU6 and what is linear.
TORCHVISION_SPIKING = frozenset(
    f"torchvision:{name}"
    for name in (
        "alexnet", "densenet121", "googlenet", "inception_v3", "mnasnet0_5", "mobilenet_v2", "regnet_x_400mf",
        "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11", "wide_resnet50_2",
    )
)  # fmt: skip


def other_classifiers() -> tuple[Member, ...]:
    """Every classifier of torchvision that is not in ``TORCHVISION``, on images as small as for its kind."""
    from torchvision import models

    sizes = {_kind(name): size for name, size in _TORCHVISION.items()}
    names = [name for name in models.list_models(module=models) if name not in _TORCHVISION]
    return tuple(Member("torchvision", f"torchvision:{name}", sizes.get(_kind(name), 64)) for name in names)


def _kind(name: str) -> str:
    return name[: len(name) - len(name.lstrip("abcdefghijklmnopqrstuvwxyz"))]
