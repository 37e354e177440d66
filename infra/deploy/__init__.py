"""``python -m infra.deploy``: plan, up, status, render and down.

``up`` walks one table of steps (``steps``). A step is a stack, the Lambdas or the image; each looks
at what stands on AWS first, so each can be run again. What is decided without AWS is pure and
stands in modules of its own: the configuration (``config``, ``rules``, ``lambda_settings``), the
templates (``templates``), what a stack's state asks for (``states``), the Lambdas' policies
(``policies``) and their Chalice stage (``chalice_stage``).
"""
