"""Word lists of our own writing. `part.py` draws from them; nothing here says which words are held out."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    """Ada Adam Agnes Aisha Alan Albert Alice Alma Amir Amy Ana Anders Andrea Andrew Angela Anna Anton Ariel Arthur
    Astrid Aya Beatrice Ben Bella Bianca Boris Bruno Carla Carlos Carmen Carol Cecilia Chen Chiara Chloe Clara
    Claude Conrad Cora Daniel Daria David Dean Delia Diana Diego Dora Edgar Edith Elena Eli Elias Elsa Emil Emma
    Enzo Erik Esther Eva Fatima Felix Fiona Flora Frank Frida Gabriel George Gina Greta Hana Hanna Harold Hector
    Helen Henry Hugo Ibrahim Ida Igor Ines Ingrid Irene Iris Isaac Ivan Jack Jacob Jan Jasmin Jean Jia John
    Jonas Josef Judith Julia June Kai Karen Karim Karl Kate Kenji Kira Klara Lars Laura Lea Lena Leo Liam Lily
    Lin Linda Lisa Louis Lucia Lucy Luis Lydia Magnus Maja Malik Marco Maria Marie Mark Marta Martin Mary Matteo
    Maya Mei Mia Michael Milan Mina Mira Mohamed Mona Nadia Nancy Naomi Nasrin Nathan Nicolas Nils Nina Noah
    Nora Olga Oliver Oscar Otto Pablo Paula Pavel Pedro Peter Petra Philip Priya Quentin Rachel Rafael Rana Raul
    Ravi Rebecca Rita Robert Robin Rosa Ruth Sacha Sam Sandra Sara Selma Sergei Simon Sofia Sonia Stella Stefan
    Sven Sylvia Tamar Tara Theo Thomas Tim Tina Tom Tove Uma Ursula Vera Victor Viola Walter Wanda Wei Wilma
    Xenia Yara Yusuf Yvonne Zara Zoe"""
)

SURNAMES = _words(
    """Abbott Adler Ahmed Almeida Andersen Arnold Bailey Baker Barros Becker Bell Berg Bianchi Blake Bond Borg Brandt
    Brown Burton Carter Castro Chan Clark Cohen Cole Cook Costa Cruz Dahl Dalton Davis Diaz Dixon Duarte Dubois
    Eriksen Evans Farrell Ferrari Fischer Fisher Fleming Foster Fox Garcia Gomez Grant Gray Green Gupta Hall
    Hansen Harper Hart Hayes Hill Holm Hughes Ito Ivanov Jansen Johnson Jones Kaya Keller Kelly Khan Kim King
    Klein Koch Kumar Lang Larsen Lee Lewis Lim Lopez Lund Marsh Martins Mason Meyer Miller Moore Morgan Moreau
    Mori Murphy Nagy Nash Nguyen Novak Okafor Olsen Ortiz Owens Park Parker Patel Pereira Popov Porter Price
    Quinn Ramos Reed Reyes Rossi Russo Sato Schmidt Shah Shaw Silva Singh Stone Suzuki Tanaka Taylor Torres
    Turner Vogel Walker Wang Ward Weber West White Wolf Wong Wood Yamada Young Zhang Zimmer"""
)

CITIES = _words(
    """Accra Aden Algiers Amman Antwerp Athens Auckland Baku Bangkok Basel Beirut Belfast Bergen Berlin Bern Bilbao
    Bogota Bologna Bonn Boston Bremen Brisbane Brussels Bucharest Budapest Cairo Calgary Cardiff Casablanca
    Chicago Cologne Cork Dakar Dallas Damascus Delhi Denver Dresden Dublin Durban Edinburgh Florence Geneva
    Genoa Ghent Glasgow Granada Graz Hamburg Hanoi Havana Helsinki Houston Istanbul Jakarta Karachi Kiel Kyoto
    Lagos Lahore Leeds Leipzig Lima Linz Lisbon London Lyon Madrid Malmo Manila Marseille Melbourne Miami Milan
    Montreal Moscow Munich Nairobi Nantes Naples Nice Odessa Osaka Oslo Ottawa Oxford Palermo Paris Perth Pisa
    Porto Prague Quebec Quito Riga Rome Rotterdam Salzburg Santiago Seattle Seoul Seville Shanghai Sofia Split
    Stockholm Sydney Taipei Tallinn Tbilisi Tokyo Toronto Toulouse Trieste Tunis Turin Utrecht Valencia Venice
    Vienna Vilnius Warsaw Wellington York Zagreb Zurich"""
)

THINGS = _words(
    """anchor apple apron arrow axe badge bag ball banana barrel basket bell belt bench bicycle blanket boat book boot
    bottle bowl box bracelet bread brick bridge broom brush bucket button cabin cable cake camera candle canoe
    cap card carpet carrot cart castle chain chair cheese cherry chest clock cloth cloud coat coffee coin comb
    compass cookie cork crown cup curtain cushion desk diary dish door drawer dress drill drum egg engine
    envelope feather fence fern flag flask flour flower flute fork fountain frame garden gate glass globe glove
    grape guitar hammer harbour harp hat helmet honey hook horn house ink iron jacket jar jewel key kettle kite
    knife ladder lamp lantern leaf lemon lens letter lid lock magnet map mask medal melon mirror mitten muffin
    mug nail napkin necklace needle nest net notebook nut oar olive onion orange oven paddle page pan panel
    paper pear pearl pebble pen pencil pepper piano pillow pin pipe plate plum pocket poster pot puddle pump
    purse puzzle quilt raft rake ribbon ring robe rocket roof rope rug saddle sail salt sandal saw scale scarf
    scissors screw seed shelf shell shield ship shirt shoe shovel sign skirt sled soap sock sofa spade spoon
    stamp star stone stool stove string sugar suitcase sweater table teapot telescope tent thimble thread ticket
    tile toast torch towel tower train tray trumpet tub tulip umbrella vase vest violin wagon wallet watch wheel
    whistle window wire wrench"""
)

ANIMALS = _words(
    """ant badger bat bear beaver bee camel cat cow crab crow deer dog dolphin donkey dove duck eagle eel elk falcon
    finch fox frog goat goose hare hawk hedgehog hen heron horse lamb lark lion lizard lynx magpie mole moose
    mouse mule newt otter owl ox parrot pelican penguin pig pony rabbit raven robin salmon seal sheep snail
    sparrow spider squirrel stork swan tiger toad trout turtle walrus whale wolf wren zebra"""
)

COLOURS = _words(
    """amber azure beige black blue bronze brown copper coral cream crimson cyan gold green grey indigo ivory jade
    lavender lilac lime magenta maroon mauve navy ochre olive orange peach pink plum purple red rose ruby rust
    salmon scarlet silver tan teal turquoise violet white yellow"""
)

JOBS = _words(
    """actor architect astronomer baker barber beekeeper biologist bookseller botanist builder butcher carpenter chef
    chemist clerk coach composer cook dancer dentist designer doctor driver editor electrician engineer farmer
    firefighter fisher florist gardener geologist glazier guide historian hunter jeweller journalist judge
    lawyer librarian mason mechanic miller miner musician nurse painter pharmacist photographer pilot plumber
    poet porter potter printer professor programmer publisher sailor sculptor secretary shepherd singer smith
    surgeon surveyor tailor teacher translator vet waiter weaver writer zoologist"""
)

ADJECTIVES = _words(
    """ancient bitter brave bright broad broken calm careful cheap clean clever cold cool curious dark deep dry dusty
    early empty fair faint fast fine flat fresh friendly full gentle gloomy golden grand happy hard heavy high
    hollow honest hot hungry idle kind large late lazy light little lonely long loud lucky mild modern narrow
    neat new noisy odd old open pale patient plain polite poor proud quick quiet rare ready rich ripe rough
    round sad safe salty sharp shiny short shy silent simple slow small smooth soft sour steep stiff strange
    strong sunny sweet swift tall tender thick thin tidy tiny tired warm weak wet wide wild wise young"""
)

VERBS = _words(
    """add archive approve assign book buy cancel check clean close collect compare compress confirm copy count create
    deliver design download draw edit erase export file fill find fix fold format forward freeze import inspect
    install invite label list load lock mark measure merge mix move open order pack paint pause pay pick plan
    plant play post print publish read rename rent repair replace report reserve reset restart return review
    rotate save scan schedule search sell send share ship show sign sort split start stop store submit sweep
    test tie track train translate unlock update upload verify wash water weigh wrap write"""
)

OBJECTS = _words(
    """account address agenda album alarm appointment article auction backup banner battery bill board bond booking
    branch budget bug calendar campaign card catalogue channel chapter chart circuit claim class client comment
    company contact container contract course coupon database delivery deposit device document domain draft
    email event exam exhibit expense factory feed field file flight folder form forum game gallery group guest
    image index invoice item job journal kitchen lecture lesson letter library licence lift light line link list
    loan locker log machine mailbox map market meal meeting menu message meter model module mortgage movie
    network newsletter note notice offer office order parcel parking payment permit phone photo pipeline
    playlist poll portfolio printer product profile project prescription queue quote rate receipt recipe record
    region rental report request reservation robot room route rule salary sample schedule seat sensor server
    session shipment shop signal site song spreadsheet stock story student subscription survey switch tank task
    tax team template ticket timer tour track trade train transfer trip vehicle video visa vote voucher
    warehouse website wallet warranty workshop"""
)

LABELS = _words(
    """amount area author balance batch block brand capacity carrier category channel chapter charge city client code
    colour comment company contact cost country county currency customer date deadline degree delay department
    depth destination device diameter discount distance district duration edition editor email engine event
    expiry factory fee file finish flavour floor folder format fuel gate genre grade group guest handle height
    host hotel identifier issue item job keyword label language length level limit line location manager
    material measure member message method mode model month motor name nickname note number occupation office
    operator order origin owner page partner password path period person phone place plan platform port position
    postcode power pressure price priority product profession project province publisher quality quantity range
    rank rate reason receiver reference region reply result role room route salary score seat section sender
    serial series service shape shelf size source speed stage start station status stop storage street style
    subject supplier surface surname symbol target task team temperature term theme tier title tone topic total
    track type unit user value vendor version village voltage volume ward warehouse weight width worker year
    zone"""
)

MONTHS = _words("""January February March April May June July August September October November December""")

DAYS = _words("""Monday Tuesday Wednesday Thursday Friday Saturday Sunday""")

PLAIN = _words(
    """a about after again all also an and any are as at away back be before behind below beside both but by came can
    come did do does down each even every far few first for found from gave give go good got had has have he her
    here him his how i if in inside into is it its just keep kept knew know last left less like long look made
    make many me more most much must my near never next no not now of off old on once one only or other our out
    over own put said saw say see she should since so some soon still such take than that the their them then
    there these they this those through to told too took two under until up upon us very was way we went were
    what when where which while who why will with without would you your"""
)
"""Common words, which sentences are made of."""

COUNTRIES = _words(
    """Albania Algeria Angola Argentina Armenia Australia Austria Belgium Bolivia Brazil Bulgaria Cambodia Canada Chad
    Chile China Colombia Croatia Cuba Cyprus Denmark Ecuador Egypt England Estonia Ethiopia Finland France
    Georgia Germany Ghana Greece Hungary Iceland India Indonesia Iran Iraq Ireland Israel Italy Jamaica Japan
    Jordan Kenya Korea Laos Latvia Lebanon Libya Lithuania Malaysia Mali Malta Mexico Mongolia Morocco Nepal
    Nigeria Norway Oman Pakistan Panama Peru Poland Portugal Romania Russia Rwanda Scotland Senegal Serbia
    Singapore Slovakia Slovenia Spain Sudan Sweden Syria Thailand Tunisia Turkey Uganda Ukraine Uruguay Vietnam
    Wales Yemen Zambia"""
)
