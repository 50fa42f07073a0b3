"""0.1 CE + 0.0045 squared distance of the logits, summed over the classes, mean over the batch."""

from ce import cross_entropy


def reference(case):
    distance = case.student.logits.numpy() - case.teacher.logits.numpy()
    return {"ce": 0.1 * cross_entropy(case), "kd": 0.0045 * (distance**2).sum(1).mean()}
