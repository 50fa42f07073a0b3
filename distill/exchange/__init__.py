"""Loading, export and import of networks and runs.

load        a finished run in Python, its data, and its accuracy measured again
export      a finished run as safetensors, ONNX and torch.export, each compared with the run (`forms`, `folder`)
card        the model card of an export
results     finished runs as small files for a git repository
weights     a finished run made of such a checkpoint
restore     a run of distill brought back from its weights
folders     every finished run in a folder taken in

`folder` and `results` import no torch, so that a command is refused at once.
"""
