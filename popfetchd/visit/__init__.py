"""
The stages of a visit that take more than a few lines; popfetchd/poll.py tells them.

Rules of this package:

- A stage is a function of the course, the session and what an earlier stage found out.
- What more than one stage has to know stands in the course, and nowhere else.
- A stage does not decide that another begins: the story is told in poll.py.
"""
