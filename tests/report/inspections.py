"""Inspections of the kinds that a reader meets, for the tests of how they look."""

from __future__ import annotations

from vram_cli.records import (
    ClassFacts,
    DataFacts,
    DataInfo,
    DtypeFacts,
    ImageSample,
    Inspection,
    LayerFacts,
    ModelFacts,
    StoredFacts,
    TensorFacts,
    TensorInfo,
)

_VERSIONS = {"vram": "0.1.0", "torch": "2.14.1+cu130"}
_SIZES = {"float32": 4, "int64": 8}
_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def tensor(name: str, shape: tuple[int, ...], dtype: str, batch_size: int) -> TensorFacts:
    size = _SIZES[dtype]
    for length in shape:
        size *= length
    return TensorFacts(
        info=TensorInfo(name=name, shape=shape, dtype=dtype), sample_bytes=size, batch_bytes=size * batch_size
    )


def layer(  # noqa: PLR0917 - a row of a table
    path: str,
    kind: str,
    output: tuple[int, ...] | None,
    parameters: int = 0,
    trainable: int | None = None,
    calls: int = 1,
) -> LayerFacts:
    return LayerFacts(
        path=path,
        kind=kind,
        output_shape=output,
        calls=calls if output else 0,
        parameters=parameters,
        trainable_parameters=parameters if trainable is None else trainable,
        bytes=4 * parameters,
    )


def model(
    name: str, layers: tuple[LayerFacts, ...], batch_size: int | None, *notes: str, buffers: int = 0
) -> ModelFacts:
    return ModelFacts(
        name=name,
        layers=layers,
        dtypes=(
            DtypeFacts(
                dtype="float32",
                parameters=layers[0].parameters,
                parameter_bytes=layers[0].bytes,
                buffers=buffers,
                buffer_bytes=4 * buffers,
            ),
        ),
        trainable_parameters=layers[0].trainable_parameters,
        batch_size=batch_size,
        notes=notes,
    )


def ramp(label: int, channels: int) -> ImageSample:
    """Return an image of 28 x 28 that brightens to the right; in colour, red to the right and green downwards."""
    pixels = [
        value
        for y in range(28)
        for x in range(28)
        for value in ((255 * x // 27,) if channels == 1 else (255 * x // 27, 255 * y // 27, 0))
    ]
    return ImageSample(label=label, shape=(28, 28, channels), pixels=tuple(pixels))


FILES = Inspection(
    config_name="mlp_mnist.yaml",
    config={"data": {"name": "mnist", "source": "auto"}},
    overrides=(),
    data=DataFacts(
        info=DataInfo(
            name="mnist",
            source="files",
            detail="mnist files under data",
            tensors=(TensorInfo(name="images", shape=(1, 28, 28), dtype="float32"),),
            classes=10,
            num_samples=60_000,
        ),
        mode="gray",
        batch_size=128,
        tensors=(tensor("images", (1, 28, 28), "float32", 128), tensor("targets", (), "int64", 128)),
        stored=StoredFacts(
            dtype="uint8",
            sample_bytes=784,
            low=0,
            high=255,
            mean=(0.1307,),
            std=(0.3081,),
            trained_low=-0.42421296,
            trained_high=2.8214867,
            measured=True,
        ),
        classes=tuple(ClassFacts(name=str(digit), count=count) for digit, count in enumerate(_COUNTS)),
    ),
    model=model(
        "mlp",
        (
            layer("", "Sequential", (128, 10), 101_770),
            layer("0", "Flatten", (128, 784)),
            layer("1", "Linear", (128, 128), 100_480),
            layer("2", "ReLU", (128, 128)),
            layer("3", "Linear", (128, 10), 1_290),
        ),
        128,
    ),
    versions=_VERSIONS,
    samples=tuple(ramp(label, 1) for label in range(10) for _ in range(2)),
)

SYNTHETIC = Inspection(
    config_name="finetune.yaml",
    config={"data": {"name": "cifar10", "source": "auto"}},
    overrides=(),
    data=DataFacts(
        info=DataInfo(
            name="cifar10",
            source="synthetic",
            detail="no cifar10 files under data, same shape instead",
            tensors=(TensorInfo(name="images", shape=(3, 32, 32), dtype="float32"),),
            classes=10,
            num_samples=50_000,
        ),
        mode="colour",
        batch_size=64,
        tensors=(tensor("images", (3, 32, 32), "float32", 64), tensor("targets", (), "int64", 64)),
        stored=StoredFacts(
            dtype="uint8",
            sample_bytes=3072,
            low=0,
            high=255,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            trained_low=-1.0,
            trained_high=1.0,
            measured=False,
        ),
        classes=tuple(ClassFacts(name=name, count=None) for name in _THINGS),
    ),
    model=model(
        "timm:vit_small_patch16_224",
        (
            layer("", "VisionTransformer", (64, 10), 21_608_074, 21_312_778),
            layer("patch_embed", "PatchEmbed", (64, 36, 384), 295_296, 0),
            layer("patch_embed.proj", "Conv2d", (64, 384, 6, 6), 295_296, 0),
            layer("pos_drop", "Dropout", (64, 37, 384)),
            layer("blocks", "Sequential", (64, 37, 384), 21_294_336),
            layer("blocks.0", "Block", (64, 37, 384), 21_294_336),
            layer("blocks.0.act", "GELU", (64, 37, 1536), calls=2),
            layer("blocks.0.mlp", "Mlp", (64, 37, 384), 21_294_336),
            layer("blocks.0.mlp.fc1", "Linear", (64, 37, 1536), 21_294_336),
            layer("head", "Linear", (64, 10), 3_850),
        ),
        64,
        buffers=2_000,
    ),
    versions=_VERSIONS,
)

CODE = Inspection(
    config_name="train.yaml",
    config={"data": {"factory": "corpus:Sentences"}},
    overrides=(),
    data=DataFacts(
        info=DataInfo(
            name="corpus:Sentences",
            source="code",
            detail="corpus:Sentences: the largest of 1,000 samples looked at stand for the worst batch",
            tensors=(
                TensorInfo(name="[0]", shape=(64,), dtype="int64"),
                TensorInfo(name="[1].boxes", shape=(8, 4), dtype="float32"),
            ),
            classes=None,
            num_samples=1_000,
        ),
        mode="",
        batch_size=64,
        tensors=(tensor("[0]", (64,), "int64", 64), tensor("[1].boxes", (8, 4), "float32", 64)),
        stored=None,
        classes=(),
    ),
    model=model(
        "textmodel:Tagger",
        (
            layer("", "Tagger", None, 641_548),
            layer("embed", "Embedding", (2, 64, 128), 640_000),
            layer("head", "Linear", None, 1_548),
        ),
        2,
        "Output shapes are missing: data.factory, as the model is called with it: RuntimeError: mat1 and mat2 shapes "
        "cannot be multiplied (128x128 and 120x12)",
    ),
    versions=_VERSIONS,
)

INSPECTIONS = {"files": FILES, "synthetic": SYNTHETIC, "code": CODE}
