"""A module that makes a value without one of its fields."""

from rayfold import Message


class Counted(Message):
    number: int


INITIAL = Counted.model_validate({})
