"""Decides and remembers; `workers` does. Each room imports only rooms below it:

cli                                faces: parse, call one deed, print
fleet                              what runs on this machine
runs                               a plan in motion
ecosystem  planner  locks  sample  the file people edit | pure graph work | exclusion | what `coord demo` shows
wire                               Redis connections, key names, Lua steps, the Celery client app
settings  models  errors           words
"""
