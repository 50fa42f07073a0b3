"""Teachers: frozen sources of outputs for a batch."""

from distill.teachers.live import LiveTeacher
from distill.teachers.protocol import Teacher

__all__ = ["LiveTeacher", "Teacher"]
