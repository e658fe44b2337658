"""Which loss do three kinds of job want: dropout pairs, questions and answers, images; by ``fmicl_text.sweep``."""
