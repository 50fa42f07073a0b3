"""Kim et al. 2018, the reconstruction: mean squared error between the teacher's last tap and what the paraphraser makes
of it. The trained network's two taps are that map and its reconstruction."""


def reference(case):
    original, rebuilt = case.student.features
    assert (original - case.teacher.features[-1]).abs().max() < 1e-9
    return {"feature": ((original - rebuilt) ** 2).mean().item()}
