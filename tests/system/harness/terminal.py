"""A terminal, as far as hv uses one: what its user sees after each piece of output.

Like most terminals it breaks lines that no longer fit when it becomes narrower.
"""

import re
import termios

TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b|[^\x1b]", re.DOTALL)


class Terminal:
    def __init__(self, columns):
        self.columns = columns
        self.rows = [""]
        self.goes_on = [False]  # does the next row belong to the same line?
        self.row = self.column = 0
        self.rest = b""

    def resize(self, columns, descriptor):
        """Break the lines anew; `descriptor` is our side of the pseudo-terminal."""
        termios.tcsetwinsize(descriptor, (24, columns))
        self.columns = columns
        rows, goes_on, before = [], [], 0
        line = ""
        for number, text in enumerate(self.rows):
            if number == self.row and line == "":
                before = len(rows)
            line += text
            if not self.goes_on[number]:
                pieces = [line[i : i + columns] for i in range(0, len(line), columns)] or [""]
                rows += pieces
                goes_on += [True] * (len(pieces) - 1) + [False]
                line = ""
        self.rows, self.goes_on, self.row = rows, goes_on, before

    def feed(self, data):
        data = self.rest + data
        whole = re.sub(rb"(\x1b(\[[0-9;?]*)?|[\xc0-\xff][\x80-\xbf]{0,2})\Z", b"", data)
        text = whole.decode("utf-8", "replace")
        self.rest = data[len(whole) :]
        for token in TOKEN.finditer(text):
            if token.group(2) is not None:
                self.obey(token.group(2), token.group(1))
            elif token.group() == "\r":
                self.column = 0
            elif token.group() == "\n":
                self.down()
            else:
                self.write(token.group())

    def down(self):
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")
            self.goes_on.append(False)

    def write(self, character):
        if self.column == self.columns:
            self.goes_on[self.row] = True
            self.down()
            self.column = 0
        text = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = text[: self.column] + character + text[self.column + 1 :]
        self.column += 1

    def obey(self, command, argument):
        if command == "A":
            self.row = max(0, self.row - int(argument or 1))
        elif command in "JK":
            self.rows[self.row] = self.rows[self.row][: self.column]
            self.goes_on[self.row] = False
            if command == "J":
                del self.rows[self.row + 1 :], self.goes_on[self.row + 1 :]
        else:
            assert command == "m", f"the terminal does not know {command}"
