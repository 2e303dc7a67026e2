import os
import runpy
import sys


def run(command):
    if command.kind == "module":
        sys.argv = [command.target, *command.arguments]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(command.target, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [command.target, *command.arguments]
        sys.path.insert(0, os.path.dirname(os.path.abspath(command.target)))
        runpy.run_path(command.target, run_name="__main__")
