"""Answers for any number of pictures or other samples: where they come from, how they are decoded, and a file of them.

::

    found = find_pictures(["photos/", "more/*.png", "shard-{000..099}.tar"])
    answer = partial(answer_pictures, snn, snn.session())
    summary = AnswerFile(Path("answers.csv"), FORMATS["csv"], {"engine": "int8"}).write(found, answer)

Whatever is named is listed, decoded and answered in its order, one row a picture, in memory that does not grow.
"""

from seenn.answers.decode import answer_pictures, check_sample
from seenn.answers.file import AnswerFile, Summary
from seenn.answers.formats import COLUMNS, FORMATS, Row
from seenn.answers.pictures import Picture, check_inputs, expand, find_pictures, is_array

__all__ = [
    "COLUMNS",
    "FORMATS",
    "AnswerFile",
    "Picture",
    "Row",
    "Summary",
    "answer_pictures",
    "check_inputs",
    "check_sample",
    "expand",
    "find_pictures",
    "is_array",
]
