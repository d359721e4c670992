"""One-to-one assignment of few things to few things, with the answer to ties that scipy gives.

Metrics that are defined by `scipy.optimize.linear_sum_assignment` need its choice between equally good assignments too: two
identical boxes in a prediction are such a tie. Lists of plain floats beat arrays here: the matrices have a few rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def assign_square(cost: Sequence[Sequence[float]]) -> list[int]:
    """Each row's column in the assignment of the least total cost of a square matrix of finite numbers.

    Shortest augmenting paths with dual variables (Crouse, IEEE TAES 2016). Of columns that are equally near, a free one goes before a
    taken one, and otherwise the first of the list of open columns, which starts in ascending order from its end.
    """
    size = len(cost)
    row_price, column_price = [0.0] * size, [0.0] * size
    column_of, row_of = [-1] * size, [-1] * size
    for start in range(size):
        before, distance = [-1] * size, [math.inf] * size
        open_columns = list(range(size - 1, -1, -1))
        row, reached, rows, columns = start, 0.0, [start], list[int]()
        while True:
            place, nearest, line, price = -1, math.inf, cost[row], row_price[row]
            for at, column in enumerate(open_columns):
                through = reached + line[column] - price - column_price[column]
                if through < distance[column]:
                    distance[column], before[column] = through, row
                if distance[column] < nearest or (distance[column] == nearest and row_of[column] < 0):
                    nearest, place = distance[column], at
            reached, end = nearest, open_columns[place]
            columns.append(end)
            open_columns[place] = open_columns[-1]
            open_columns.pop()
            if row_of[end] < 0:
                break
            row = row_of[end]
            rows.append(row)
        row_price[start] += reached
        for other in rows[1:]:
            row_price[other] += reached - distance[column_of[other]]
        for column in columns:
            column_price[column] -= reached - distance[column]
        while True:  # turn the path over: each of its rows takes the column that led on
            row = before[end]
            row_of[end], column_of[row], end = row, end, column_of[row]
            if row == start:
                break
    return column_of
