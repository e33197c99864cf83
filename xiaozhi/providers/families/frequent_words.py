"""The commonest words of spoken English, most frequent first: what people say when they say something else.

The recogniser knows them besides its phrases, so that a sentence that is no phrase has somewhere better to go than the
phrase it resembles most; that is how it is refused. Order: by probability in the language model that comes with
PocketSphinx."""

from __future__ import annotations

_TEXT = """
the to i and a of you that in it is for but know was have they on like be not it's so with are one this he yeah just
my we as what if do at or don't about i'm all think there would from two me people can your get out no that's said up
more when an had right well hundred really has thousand will oh because how time them she been by some who their his
were now then go good mean than going her see could much other five got three even too only want did him something
very where here way which nine lot make say first years back any new our also over into year thing still four should
work things those take us most didn't why these never twenty there's need after being can't okay little down kind
point actually many day off come same six before last he's look sure eight money doing pretty around seven always
guess life dollars long yes better probably every world does anything maybe school great find doesn't though made big
feel through thirty game old put use different stuff ten home may might used am thought while best since man love own
getting another fifty few bad give part percent live family tell ever again went someone help i'd keep everything try
play hard done enough trying next end away its place far forty talk ninety both real says country kids times least
person bit such million high exactly what's isn't told nothing friends believe let call having able show else watch
ago job nice start once whole house government problem looking change children each without days found true saying
between less week she's seen already wouldn't makes guy course care name second came sixty pay wasn't talking until
making seems eighty thanks either idea seventy read yet definitely team working city wanted left remember fact night
business months state number against called half public understand everyone whatever almost run friend case took
sometimes today must sorry important wrong started heard haven't couple minutes hi set reason question system together
car games women war hope states hey stop happened thank guys coming sort small won't fun hear under let's quite during
agree free wow buy close past food top anyone hours saw side news myself cool mind
thinking company deal whether comes happen interesting looks
"""

FREQUENT_WORDS: tuple[str, ...] = tuple(_TEXT.split())
