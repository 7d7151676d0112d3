"""The tasks luthier can tune for. A new task is one file here and one line below."""

from .base import Task as Task
from .base import TaskOptions as TaskOptions
from .classification import Classification
from .question_answering import QuestionAnswering

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "question-answering": QuestionAnswering,
}
