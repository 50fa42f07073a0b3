"""Why a chapter has nothing to show."""

from distill.report.subjects import Compared


def no_answers(compared: Compared, *, with_teacher: bool = False) -> str:
    """A sentence where the networks that a chapter needs could not be asked; empty where they could."""
    if compared.images is None:
        return "The data of these runs are not at hand, so their networks could not be asked: see above."
    if compared.run.found.answers is None:
        return f"The network of {compared.run.label} could not be asked: see above."
    if with_teacher and compared.teacher is None:
        return "There is no teacher to compare with: the run was trained without one, or its teacher's run is not here."
    if with_teacher and compared.told is None:
        return "The teacher's network could not be asked: see above."
    return ""
