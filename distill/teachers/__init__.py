"""Teachers: frozen sources of outputs for a batch."""

from distill.teachers.live import LiveTeacher, Teacher
from distill.teachers.table import TableTeacher
