"""The words that the tiny encoder knows."""

WORDS = (
    "a the man woman child dog cat horse plays eats rides runs sleeps sings guitar piano flute food ball park street "
    "house river mountain city water big small old young red green blue fast slow and on in with near is are not very"
).split()
