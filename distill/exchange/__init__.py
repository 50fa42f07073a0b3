"""Loading, export and import of networks and runs.

load        a finished run in Python, its data, and its accuracy measured again
export      a finished run as safetensors, ONNX and torch.export, each compared with the run (`forms`, `folder`)
card        the model card of an export
results     finished runs as small files for a git repository
weights     imports another project's weights as a finished run
restore     restores a run of distill from its weights
folders     imports every finished run in a folder

`folder` and `results` import no torch, so that a command is refused at once.
"""
