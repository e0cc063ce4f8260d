"""Tables as Python values."""

import re

LABEL = re.compile(r'(\w+)="([^"]*)",')


def rows(table):
    """Labels and present cells of each row."""
    return [
        (
            dict(LABEL.findall(table.labels(row).decode())),
            {column: value for column in table.columns if (value := table.get(row, column)) is not None},
        )
        for row in range(len(table))
    ]


def by_label(table, label):
    return {labels[label]: cells for labels, cells in rows(table)}


def collected(source):
    """Tables by name after a collection; the source's files are closed."""
    try:
        source.collect()
    finally:
        source.close()
    return {table.name: table for table in source.tables}
