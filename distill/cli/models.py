"""`distill models`: every network with its size, cost and feature shapes."""

from distill.cli.arguments import CONFIG_DIR, FINISHED, FORMAT, OUT, OWN, Argument, CommandLine, Verb
from distill.cli.lookup import show

VERB = Verb(
    name="models",
    usage=("[KEY=VALUE ...] [--OPTION ...]",),
    about="""\
List networks, one per line: parameters, multiply-adds (MACs) for one image, the width of the embedding, and the
channels, height and width of each feature map. They depend on the classes and image size of the data set;
its files are not needed (except with dataset=arrays).""",
    sections=(
        (
            "Data set",
            (
                Argument(
                    "dataset", "NAME", "cifar100 (default), cifar10, digits, synthetic, or arrays with dataset.npz=FILE"
                ),
                "dataset.classes=20 dataset.image_size=64        options of dataset=synthetic",
            ),
        ),
        (
            "Which networks (default: every student preset)",
            (
                Argument("student", "NAME,NAME", "these only"),
                "student=timm student.name=resnet18       a network of timm, or of torchvision, by its name there",
                "student=timm student.name=vit_tiny_patch16_224 +student.img_size=32 +student.patch_size=4",
                "                                         (+ adds a key that the preset does not have)",
                Argument("runs_dir"),
                CONFIG_DIR,
            ),
        ),
        ("Output", (FORMAT, OUT)),
    ),
    examples=(
        "distill models",
        "distill models student._target_=my_nets.Net dataset=cifar10",
        "distill models dataset=cifar10 student=plain_cnn,resnet_1m --format markdown",
    ),
    exit_codes="0 done; 2 the command was refused",
    dotted=("dataset", "student"),
)


def run(line: CommandLine) -> int:
    """Show the networks; return the exit code."""
    for key in line.pairs:
        if key.startswith("student.") and not {"student", OWN} & line.pairs.keys():
            line.fault(f"{key} belongs to one network: add student=NAME", of=key)
    line.check()

    from distill.cli.networks import count, formats

    pairs = {key: value for key, value in line.pairs.items() if key != "runs_dir"}
    show(formats(count(pairs, config_dir=line.config_dir)), line)
    return FINISHED
