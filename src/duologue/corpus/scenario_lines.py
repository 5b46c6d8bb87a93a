"""What the scripted users say: forty subjects, written for this test set and used for nothing else."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple


class Subject(NamedTuple):
    """One subject of talk."""

    question: str
    """A short one that wants an answer of some length."""
    halves: tuple[str, str]
    """A request that breaks in the middle, where a listener must wait."""
    story: tuple[str, str, str, str]
    """Something lived through, in four stretches, where a listener says uh-huh."""
    change: str
    """What the user breaks in with."""


@cache
def subjects() -> tuple[Subject, ...]:
    """All forty, in order."""
    read = []
    for block in _LINES.strip().split("\n\n"):
        question, first, second, a, b, c, d, change = (part.strip() for part in block.replace("\n", " ").split("|"))
        read.append(Subject(question, (first, second), (a, b, c, d), change))
    return tuple(read)


_LINES = """
How do I keep basil alive on a window sill? | I would like to grow some herbs |
but my kitchen only gets sun in the morning | Last spring I planted tomatoes on the balcony |
and then the wind took every single pot | so I tied the new ones to the rail | and now we eat salad all week |
Wait, what about mint instead?

What makes bread rise? | I am trying to bake a loaf tonight | only I have no yeast left in the house |
My first loaf came out like a brick | so my neighbour gave me her starter | I fed it each evening for a month |
and today the crust finally cracked | Hold on, can I use honey in it?

How do bicycles stay upright? | I want to fix the brakes on my bike | because they squeal whenever it rains |
I rode to the lake on Sunday | and half way there the chain came off | a farmer lent me his gloves and a rag |
and I still got home before dark | Sorry, which tool was that?

Why is the sky red in the evening? | I want to take pictures of the sunset | but they always come out too dark |
We climbed the hill to see the eclipse | and the clouds closed just before noon |
then for ten seconds there was a hole | and everybody on the hill went quiet | Actually, tell me about the moon.

How does a tide work? | We are going to the beach tomorrow | and I need to know when the water is low |
When I was nine we lost a shoe in the mud | my brother went back to look for it |
the sea came in much faster than he thought | and he had to swim with it in his teeth |
Stop there, is that the same everywhere?

What should I know before I adopt a cat? | I am thinking of getting a cat | although I am away two days a week |
Our cat learned to open the fridge | first we blamed my sister for the cheese |
then we put a camera on the shelf | and there he was at three in the morning | Hang on, would a dog be easier?

How do I learn the names of birds? | There is a bird outside my window | that starts singing at four o'clock |
I kept a list of birds for a whole year | by June I had only eleven of them |
then my aunt told me to stop walking | and in one hour I saw twenty more |
Wait, how do I tell a crow from a raven?

What is a good way to remember names? | I met a lot of people at the office |
and by lunch I had forgotten all of them | At my wedding I called my uncle Peter |
his name has always been Paul | he did not say a word all evening | and then he signed the card as Peter |
Okay but what about faces?

How do I pack for a week in one bag? | I need to plan a trip to the north |
for three people who all hate the cold | We once missed a train by one minute |
so we took a bus that went the wrong way | it stopped in a village with one inn |
and that was the best night of the trip | One second, how heavy may it be?

How does a lock on a canal work? | I want to rent a boat in the summer |
even though none of us has ever steered one | My father built a boat in our garage |
it took him four winters in all | when it was ready it did not fit the door |
so we took the wall down with a hammer | Let me stop you, who opens the gates?

Which instrument is easiest to begin with? | I would like to learn the piano |
but we live in a flat with thin walls | I played the drums in a school band |
we knew just three songs by heart | at the fair they asked us for a fourth |
so we played the first one twice as fast | Hmm wait, what about the violin?

How do I sleep better when it is hot? | I have not slept well this week | since they began to dig up the road |
Our old house had a tin roof | in the rain you could not hear the radio |
my mother used to shout the news to us | and now I cannot sleep when it is quiet |
Sorry to cut in, does tea help?

What does an apprentice carpenter learn first? | I want to build a shelf for my books |
and the wall is anything but straight | I made a chair when I was fifteen | it had one leg that was too short |
so I cut the others again and again | and in the end it was a very low chair |
Hold on, which wood would you take?

How do honey bees find their way home? | My cousin is going to keep bees |
and she asked me to help with the hives | A swarm once settled on our mailbox |
the postman refused to come any closer | an old man arrived with a cardboard box |
and he took them home on the tram | Wait, do wasps do that too?

How can I save water in the garden? | I have a very small garden | with two apple trees that look thirsty |
The summer before last our well ran dry | we carried water from the church |
by August we knew all the neighbours | and nobody has been lonely since then | But what about the lawn?

What is the best way to learn to swim? | I would like to learn to swim | now that I am almost fifty years old |
I fell into the harbour as a child | a fisherman pulled me out by my hood | he gave me a sandwich and a towel |
and I have liked fishermen ever since | Stop a moment, is the sea harder?

How do I write a speech for a wedding? | I have to give a speech on Saturday |
and I do not know the groom at all | My best friend forgot his own speech |
so he read the menu out loud instead | people laughed until the soup was cold |
and the cook took a bow at the end | Actually, how long should it be?

Why do leaves change their colour? | I would like to press some leaves | from the big maple behind the school |
In autumn we used to rake the whole street | the heap was higher than my father |
then my sister jumped in with the dog | and we had to rake it all again | Hang on, why do pines stay green?

How do I choose a good melon? | I am buying fruit for a party | and I have no idea how much people eat |
At the market I dropped a melon | it rolled all the way down the hill | a boy on a scooter tried to stop it |
and he came back with half of it | Wait, and how do I cut it?

How does a mechanical watch keep time? | I have my grandfather's old watch | which runs fast by an hour a day |
I took a clock apart as a boy | and I laid all the parts on the table | then somebody opened the window |
and one spring is missing to this day | One moment, what is the escapement?

What should a first aid box contain? | I want to put together a first aid box |
for a group of twelve on a long hike | I cut my thumb opening an oyster |
my wife fainted when she saw the blood | so the waiter looked after both of us |
and he would not take any money | Sorry, what goes in it for burns?

How do I teach a child to tell the time? | My son is learning to read the clock |
yet he always mixes up the two hands | My daughter thought noon was a person |
she asked me when Noon would visit us | so we set a plate for him on Sunday |
and my brother came in with a big hat | Okay, and how about the calendar?

How do people make cheese? | I would like to make cheese at home | but I can only get milk from a shop |
We stayed on a farm in the mountains | each morning there were forty goats | one of them ate my train ticket |
and the inspector did not believe me | Wait a second, why does it have holes?

What is a fair way to split the rent? | Three of us are looking for a flat |
and one of the rooms has no window | In my first flat the heating failed | we cooked soup all day to keep warm |
the whole house came to eat with us | and the landlord came for seconds | Let me ask, who pays for the kitchen?

How do I start running without getting hurt? | I signed up for a race in May |
although I have not run since school | My first race began with the wrong crowd |
I lined up with the real athletes | for a minute I was in the lead | and that is the picture in the paper |
Hold on, do I need new shoes?

How do lighthouses work today? | I am writing a text on lighthouses | for children of about ten years |
My grandmother grew up on an island | the post boat came on Thursdays | in a storm it did not come for a month |
and they wrote letters to each other | Stop, who looks after them now?

What can I cook from lentils? | I have a big bag of lentils | and friends are coming in an hour |
Once I took salt for sugar in a cake | nobody at the table said a thing |
they each asked for a little more tea | and I found out with my own slice | Wait, do I have to soak them?

How do I get candle wax out of a cloth? | I spilled wax on the tablecloth | and it belongs to my mother in law |
We had a party with fifty candles | the cat walked along the window sill |
her tail went by the first ten of them | and she never even noticed | But will that work on wool?

How do maps show the shape of hills? | I am learning to read a map | since my phone has no signal up there |
We walked by the map for six hours | then we saw our own car again | I had held it upside down all day |
and my friends still call me captain | Hmm, what are the brown lines?

How does a snowflake form? | We hope to build an igloo | as soon as there is enough snow |
In the winter of the big snow | we left the house by the upstairs window | my father dug a tunnel to the road |
and we kept our butter in its wall | Sorry, why are there six arms?

What should I ask when I buy a used car? | I am looking at a car tomorrow |
and the owner says it was never driven in rain | My first car had no reverse gear |
so I had to plan where I would park | once I got stuck in front of a wall | and six nuns pushed me back out |
Hang on, how do I check the rust?

How do I look after leather shoes? | I found my old boots in the cellar |
and they have gone all white and stiff | I wore my brother's shoes to a dance |
they were two sizes too large for me | in the last waltz one of them flew off |
and it landed in the punch bowl | Wait, does that go for suede?

How is paper made? | I want to make paper with my class | from the old newspapers we collected |
I worked in a print shop one summer | I had to proofread the phone book | after a week I read it in my dreams |
and I found a woman with my own name | One second, can I add colour?

How can I calm down before an exam? | I have an exam in two days | and whenever I sit down I begin to clean |
In my last exam my pen ran dry | I asked the man next to me for one | he gave me his and took a pencil |
and we have been married for nine years | Actually, what do I eat before it?

Why do cats purr? | I took my cat to the vet today | and she purred through the whole visit |
We once looked after a parrot | it could say good night in Dutch | it said so each time we sat down to eat |
and the guests would get up and leave | Stop there, do lions do it?

How do I play chess better? | I keep losing at chess | against my niece, who is seven |
My grandfather taught me chess by mail | every move took him about a week | he died in the middle of a game |
and my aunt found his next move in a drawer | Wait, which opening is that?

What happens in a recycling plant? | I would like to waste less | and I do not know where to begin |
I found a letter in an old book | it was from a sailor to his sister | I looked for her for half a year |
and she lived just across the street | Hold on, what about glass?

How do I repair a dripping tap? | The tap in my bathroom drips | only at night when I try to sleep |
Our cellar was flooded in March | there were jars of plums floating about |
we fished them out with a butterfly net | and not a single one had opened |
Sorry, where do I turn the water off?

How do I find a good book for my father? | I need a present for my father | who says that he has everything |
I joined a book club by mistake | I thought it was the queue for coffee | I was too shy to say so and stayed |
and now I have been in it for years | Hang on, he does not like novels.

How do subtitles get made? | I would like to watch films in Spanish | without falling asleep after ten minutes |
We went to the wrong film last night | it was in a language we did not know |
we made up all the words ourselves | and nobody in the row wanted us to stop | Wait, who does the translation?
"""
