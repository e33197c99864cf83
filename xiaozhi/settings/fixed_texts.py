"""What the assistant says by itself, without a language model, in the languages that it is spoken to.

The defaults of the configuration; whoever writes other texts there replaces them, for all languages or for some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

APOLOGY: Final[Mapping[str, str]] = {
    "zh": "抱歉，我现在没法回答，请稍后再试。",
    "en": "Sorry, I cannot answer right now. Please try again in a moment.",
    "ja": "ごめんなさい、今はお答えできません。少し後でもう一度お試しください。",
    "ko": "죄송해요, 지금은 대답할 수 없어요. 잠시 후에 다시 말해 주세요.",
    "de": "Entschuldigung, ich kann gerade nicht antworten. Bitte versuche es gleich noch einmal.",
    "fr": "Désolé, je ne peux pas répondre pour le moment. Réessaie dans un instant.",
    "es": "Lo siento, ahora no puedo responder. Inténtalo de nuevo en un momento.",
    "pt": "Desculpe, não consigo responder agora. Tente de novo daqui a pouco.",
    "it": "Scusa, ora non riesco a rispondere. Riprova tra poco.",
    "nl": "Sorry, ik kan nu niet antwoorden. Probeer het zo nog eens.",
    "pl": "Przepraszam, teraz nie mogę odpowiedzieć. Spróbuj za chwilę.",
    "ru": "Извините, сейчас я не могу ответить. Попробуйте чуть позже.",
    "uk": "Вибачте, зараз я не можу відповісти. Спробуйте трохи пізніше.",
    "tr": "Üzgünüm, şu anda cevap veremiyorum. Lütfen biraz sonra tekrar dene.",
    "vi": "Xin lỗi, bây giờ mình chưa trả lời được. Bạn thử lại sau nhé.",
    "id": "Maaf, saya belum bisa menjawab sekarang. Coba lagi sebentar lagi.",
    "th": "ขอโทษค่ะ ตอนนี้ยังตอบไม่ได้ ลองใหม่อีกครั้งภายหลังนะคะ",
    "ar": "عذراً، لا أستطيع الإجابة الآن. حاول مرة أخرى بعد قليل.",
    "hi": "माफ़ कीजिए, अभी जवाब नहीं दिया जा सकता। थोड़ी देर बाद फिर कोशिश कीजिए।",
}
QUOTA_REACHED: Final[Mapping[str, str]] = {
    "zh": "今天聊得够多啦，我们明天再见。",
    "en": "That is enough talking for today. See you tomorrow.",
    "ja": "今日はもうたくさんお話ししました。また明日ね。",
    "ko": "오늘은 이야기를 충분히 나눴어요. 내일 또 만나요.",
    "de": "Für heute haben wir genug geredet. Bis morgen.",
    "fr": "Nous avons assez parlé pour aujourd'hui. À demain.",
    "es": "Por hoy ya hemos hablado bastante. Hasta mañana.",
    "pt": "Por hoje já conversamos bastante. Até amanhã.",
    "it": "Per oggi abbiamo parlato abbastanza. A domani.",
    "nl": "Voor vandaag hebben we genoeg gepraat. Tot morgen.",
    "pl": "Na dziś wystarczy rozmowy. Do jutra.",
    "ru": "На сегодня мы достаточно поговорили. До завтра.",
    "uk": "На сьогодні досить розмов. До завтра.",
    "tr": "Bugünlük yeterince konuştuk. Yarın görüşürüz.",
    "vi": "Hôm nay mình nói chuyện đủ rồi. Hẹn gặp lại ngày mai.",
    "id": "Untuk hari ini kita sudah cukup mengobrol. Sampai jumpa besok.",
    "th": "วันนี้คุยกันพอแล้วนะคะ พรุ่งนี้เจอกันใหม่",
    "ar": "تحدثنا بما يكفي اليوم. إلى اللقاء غداً.",
    "hi": "आज के लिए काफ़ी बातें हो गईं। कल फिर मिलेंगे।",
}
NOT_FOUND_OUT: Final[Mapping[str, str]] = {
    "zh": "你刚才问的事情，我没能查到。",
    "en": "I could not find out what you had asked for.",
    "ja": "先ほどのご質問は、調べられませんでした。",
    "ko": "아까 물어보신 것은 알아내지 못했어요.",
    "de": "Ich konnte nicht herausfinden, wonach du gefragt hattest.",
    "fr": "Je n'ai pas pu trouver ce que tu avais demandé.",
    "es": "No pude averiguar lo que habías preguntado.",
    "pt": "Não consegui descobrir o que você tinha perguntado.",
    "it": "Non sono riuscito a scoprire quello che avevi chiesto.",
    "nl": "Ik kon niet te weten komen wat je had gevraagd.",
    "pl": "Nie udało mi się ustalić tego, o co pytałeś.",
    "ru": "Не удалось узнать то, о чём вы спрашивали.",
    "uk": "Не вдалося дізнатися те, про що ви питали.",
    "tr": "Sorduğun şeyi öğrenemedim.",
    "vi": "Mình chưa tìm ra điều bạn đã hỏi.",
    "id": "Saya tidak berhasil mengetahui yang kamu tanyakan.",
    "th": "หาสิ่งที่ถามไว้ไม่พบค่ะ",
    "ar": "لم أتمكن من معرفة ما سألت عنه.",
    "hi": "आपने जो पूछा था, उसका पता नहीं चल सका।",
}
"""Of a tool that took long and failed, where no language model can say it."""
TOOL_FILLER: Final[Mapping[str, str]] = {
    "zh": "稍等一下，我还在处理。",
    "en": "One moment, I am still on it.",
    "ja": "少々お待ちください。",
    "ko": "잠시만 기다려 주세요.",
    "de": "Einen Moment, ich bin noch dabei.",
    "fr": "Un instant, je m'en occupe.",
    "es": "Un momento, estoy en ello.",
    "pt": "Um momento, estou tratando disso.",
    "it": "Un momento, ci sto lavorando.",
    "nl": "Een ogenblik, ik ben ermee bezig.",
    "pl": "Chwileczkę, zajmuję się tym.",
    "ru": "Минутку, я этим занимаюсь.",
    "uk": "Хвилинку, я цим займаюся.",
    "tr": "Bir saniye, hâlâ ilgileniyorum.",
    "vi": "Chờ một chút, mình đang xử lý.",
    "id": "Sebentar, masih saya kerjakan.",
    "th": "รอสักครู่นะคะ กำลังดำเนินการอยู่",
    "ar": "لحظة من فضلك، ما زلت أعمل على ذلك.",
    "hi": "एक क्षण, अभी इस पर काम हो रहा है।",
}
ENTER_CODE: Final[Mapping[str, str]] = {
    "zh": "请在控制台里输入验证码 {code}，绑定这台设备。",
    "en": "Please enter the code {code} in the console to add this device.",
}
"""To a device that nobody has bound yet. `{code}`: digits."""
NOT_KNOWN: Final[Mapping[str, str]] = {
    "zh": "控制台不认识这台设备，请检查设备的 OTA 地址，然后重启设备。",
    "en": "The console does not know this device. Please check the device's OTA address and restart it.",
}
"""To a device that has never asked the console for its settings."""
