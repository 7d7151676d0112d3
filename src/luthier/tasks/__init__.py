"""The tasks luthier can tune for. A new task is one file here and one line below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.errors import ModelError

from .asking.task import Asked
from .base import Task as Task
from .base import TaskOptions as TaskOptions
from .base import Work as Work
from .classification import Classification
from .embedding import Embedding
from .generation import Generation
from .pretraining import Pretraining
from .question_answering import QuestionAnswering
from .seq2seq import Seq2Seq
from .token_classification import TokenClassification

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "question-answering": QuestionAnswering,
    "token-classification": TokenClassification,
    "embedding": Embedding,
    "generation": Generation,
    "seq2seq": Seq2Seq,
    "pretraining": Pretraining,
}


def make_task(options: Any, kind: str, method: Any, state: Mapping[str, Any] | None = None) -> Task:
    """The task of these settings, as a model of this kind and this method can do it.

    A model whose kind the task does not train is asked in words instead (see asked.py), and so is any model that is
    not trained at all. A method with a head of its own needs no words. ModelError where neither is possible.
    """
    task = TASKS[options.name](options, state)
    if method.trains and (kind in task.kinds or method.own_head):
        return task
    can_be_asked = type(task).tell is not Task.tell and task.form.target not in {f.name for f in task.form.inputs}
    if not can_be_asked and not method.trains:
        raise ModelError(
            f"{method.name} asks a model for answers in words, and {task.name} has none to write",
            where="method",
            fix="choose a method that trains: full, lora, adapter or soft-prompt",
        )
    if not can_be_asked or kind not in Asked.asks:
        return task
    return Asked(task, kind, None if method.trains else method)
